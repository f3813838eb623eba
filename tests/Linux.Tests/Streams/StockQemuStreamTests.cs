using Bgsnap.SnapshotFormat.Streams;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux.Tests.Streams;

/// <summary>We read streams that a stock QEMU wrote, and a stock QEMU loads streams that we wrote.</summary>
public sealed class StockQemuStreamTests : IDisposable
{
    private const long MemoryBytes = 128 << 20;

    private readonly string _directory = Directory.CreateTempSubdirectory("bgsnap-streams-").FullName;

    public static TheoryData<string> Machines() =>
        new()
        {
            "-machine pc -m 128 -device VGA",
            "-machine q35 -m 128 -device VGA -device virtio-rng-pci -device virtio-balloon-pci -device qemu-xhci",
            "-machine pc,suppress-vmdesc=on -m 128",
            "-object memory-backend-memfd,id=mem,size=128M,share=on -machine q35,memory-backend=mem -m 128 -smp 2",
        };

    public void Dispose() => Directory.Delete(_directory, recursive: true);

    [SkippableTheory]
    [MemberData(nameof(Machines))]
    public void A_stream_that_we_write_loads_into_a_stock_qemu(string machine)
    {
        Skip.IfNot(File.Exists(StreamTestQemu.Program), "QEMU is not installed");
        string[] arguments = machine.Split(' ');
        using var source = new StreamTestQemu(_directory, "source", arguments);
        Thread.Sleep(1500);
        source.Execute("stop");
        source.SaveDeviceState(PathOf("device-state"));
        byte[] truth = source.DumpMemory(PathOf("truth"), MemoryBytes);
        source.Migrate(PathOf("plain"));
        (ParsedRam ram, MigrationStreamContents contents) = Parse("plain");

        Assert.Equal(source.MachineType, contents.MachineType);
        Assert.Equal(!machine.Contains("suppress-vmdesc", StringComparison.Ordinal), contents.Description is not null);
        DeviceStateFile deviceState = DeviceStateFile.Parse(File.ReadAllBytes(PathOf("device-state")), contents.Description);
        Assert.Equal(contents.DeviceState.Sections, deviceState.Sections);

        Write(contents.MachineType, ram, deviceState);
        // The machine stays paused at the end of the load: its RAM is then exactly the stream's content.
        using var target = new StreamTestQemu(_directory, "target", [.. arguments, "-S", "-incoming", $"exec:cat {PathOf("stream")}"]);
        target.WaitForStatus("paused");
        byte[] loaded = target.DumpMemory(PathOf("loaded"), MemoryBytes);
        Assert.True(truth.AsSpan().SequenceEqual(loaded), $"RAM differs from {truth.AsSpan().CommonPrefixLength(loaded):x}");
        target.Migrate(PathOf("again"));
        AssertSame(ram, Parse("again").Ram);
    }

    [SkippableTheory]
    [MemberData(nameof(Machines))]
    public void A_background_snapshot_becomes_a_stream_of_ours_and_runs_again(string machine)
    {
        Skip.IfNot(File.Exists(StreamTestQemu.Program), "QEMU is not installed");
        Skip.IfNot(Environment.IsPrivilegedProcess, "userfaultfd needs root");
        string[] arguments = machine.Split(' ');
        using var source = new StreamTestQemu(_directory, "source", arguments);
        Thread.Sleep(1000);
        source.Migrate(PathOf("plain"), background: true);
        Assert.Equal("running", source.Status);
        (ParsedRam ram, MigrationStreamContents contents) = Parse("plain");
        // Every page, once.
        Assert.Equal(contents.Blocks.Sum(b => (long)b.UsedLength) / 4096, contents.Pages + contents.ZeroPages);

        Write(contents.MachineType, ram, contents.DeviceState);
        using var target = new StreamTestQemu(_directory, "target", [.. arguments, "-incoming", $"exec:cat {PathOf("stream")}"]);
        target.WaitForStatus("running");
        Thread.Sleep(300);
        Assert.Equal("running", target.Status);
    }

    private string PathOf(string name) => Path.Combine(_directory, name);

    private (ParsedRam Ram, MigrationStreamContents Contents) Parse(string name)
    {
        var ram = new ParsedRam();
        using FileStream stream = File.OpenRead(PathOf(name));
        return (ram, MigrationStreamParser.Parse(stream, ram));
    }

    private void Write(string machineType, IRamSource ram, DeviceStateFile deviceState)
    {
        using SafeFileHandle file = File.OpenHandle(PathOf("stream"), FileMode.Create, FileAccess.Write);
        new MigrationStreamWriter(machineType, ram, deviceState).Write(file);
    }

    private static void AssertSame(ParsedRam expected, ParsedRam actual)
    {
        Assert.Equal(expected.Blocks, actual.Blocks);
        foreach ((string name, _) in expected.Blocks)
            Assert.True(expected[name].AsSpan().SequenceEqual(actual[name]), $"RAM block {name} differs");
    }
}
