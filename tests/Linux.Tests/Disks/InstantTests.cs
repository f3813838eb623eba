using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Disks;

/// <summary>The captured disks are those of RAM's point in time, to the last acknowledged write.</summary>
public class InstantTests
{
    private const int InARow = 50;

    public static TheoryData<DiskFormat, DiskBus, bool, DiskArguments> Combinations
    {
        get
        {
            TheoryData<DiskFormat, DiskBus, bool, DiskArguments> all = [];
            foreach (var format in Enum.GetValues<DiskFormat>())
            {
                foreach (var bus in Enum.GetValues<DiskBus>())
                {
                    foreach (var device in (bool[])[false, true])
                        all.Add(format, bus, device, device == (format == DiskFormat.Raw) ? DiskArguments.Drive : DiskArguments.Blockdev);
                }
            }
            return all;
        }
    }

    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task Fifty_captures_in_a_row_agree_on_two_disks_written_in_turn(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(version, new TestDisk { Name = "vda" }, new TestDisk { Name = "vdb", Format = DiskFormat.Qcow2 })
        );
        long last = 0;
        for (var i = 0; i < InARow; i++)
        {
            var verdict = await DiskMachines.CaptureAgreesAsync(vm, $"capture {i}");
            Assert.True(verdict.Newest > last, $"capture {i}: the guest wrote nothing since the one before: {verdict}");
            last = verdict.Newest;
        }
    }

    /// <summary>The negative control: without it, the other tests prove nothing.</summary>
    [SkippableTheory]
    [InlineData(QemuVersion.System)]
    [InlineData(QemuVersion.Unpacked10)]
    public async Task A_cut_of_the_disks_outside_the_pause_does_not_agree(QemuVersion version)
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(version, new TestDisk { Name = "vda" }, new TestDisk { Name = "vdb" })
        );
        List<DiskVerdict> verdicts = [];
        // A single try may be lucky, without a write between the two moments.
        for (var i = 0; i < 5 && verdicts.TrueForAll(v => v.Agrees); i++)
        {
            var snapshot = await Agent.CaptureAsync(vm, $"late{i}", Agent.Hook("skip:disk-cut"), "--engine=agent");
            verdicts.Add(await SnapshotDisks.JudgeAsync(snapshot.Output));
        }

        Assert.Contains(verdicts, v => !v.Agrees && v.ToString().Contains("from after the point in time", StringComparison.Ordinal));
        await DiskMachines.WritesOnAsync(vm, "a late cut");
    }

    [SkippableTheory]
    [MemberData(nameof(Combinations))]
    public async Task Every_format_on_every_bus_agrees(DiskFormat format, DiskBus bus, bool device, DiskArguments arguments)
    {
        foreach (var version in Enum.GetValues<QemuVersion>())
        {
            await using var vm = await Requirements.StartAsync(
                DiskMachines.Writing(
                    version,
                    new TestDisk
                    {
                        Name = "disk",
                        Format = format,
                        Bus = bus,
                        IsBlockDevice = device,
                        Arguments = arguments,
                    }
                )
            );
            var graph = await BlockGraph.TakeAsync(vm);

            await DiskMachines.CaptureAgreesAsync(vm, "first");
            await DiskMachines.CaptureAgreesAsync(vm, "slow", "--bandwidth-limit=40Mi");

            await graph.AssertIsBackAsync(vm, $"{version}");
        }
    }

    [SkippableTheory]
    [InlineData(QemuVersion.Unpacked10, "qemu", "auto")]
    [InlineData(QemuVersion.System, "agent", "overlay")]
    [InlineData(QemuVersion.Unpacked10, "agent", "overlay")]
    public async Task Every_engine_and_method_agrees(QemuVersion version, string engine, string method)
    {
        await using var vm = await Requirements.StartAsync(
            DiskMachines.Writing(
                version,
                new TestDisk { Name = "vda" },
                new TestDisk
                {
                    Name = "sda",
                    Bus = DiskBus.VirtioScsi,
                    Format = DiskFormat.Qcow2,
                }
            ) with
            {
                MemoryMiB = 96,
            }
        );
        var graph = await BlockGraph.TakeAsync(vm);
        for (var i = 0; i < 3; i++)
        {
            // The guest names the scsi disk sda, so it comes first there.
            var snapshot = await Agent.CaptureAsync(vm, $"capture{i}", $"--engine={engine}", $"--disk-method={method}");
            var disks = SnapshotDisks.Of(snapshot.Output);
            Assert.All(disks, d => Assert.Equal(method == "auto" ? "copy-before-write" : method, d.Method));
            List<string> images = [];
            foreach (var disk in disks.OrderBy(d => d.Name, StringComparer.Ordinal))
                images.Add(await SnapshotDisks.ToRawAsync(snapshot.Output, disk));
            var verdict = DiskScanner.Judge(SnapshotImage.FindDiskRecord(snapshot.Output), images);
            Assert.True(verdict.Agrees, $"{verdict}\n{snapshot}");
            await DiskMachines.WritesOnAsync(vm, $"capture {i}");
            await graph.AssertIsBackAsync(vm, $"capture {i}", byQemu: engine == "qemu");
        }
    }
}
