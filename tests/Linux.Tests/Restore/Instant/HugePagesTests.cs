using Bgsnap.Linux.Tests.Capture;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Restore.Instant;

/// <summary>
/// The restore turns memory that arrived in small pages into huge pages again, but only where a huge page is data from end to end.
/// </summary>
[Collection(Alone.Name)]
public class HugePagesTests
{
    private const long Huge = 2 << 20,
        From = 64 << 20,
        Length = 64 << 20;
    private const int Page = 4096;

    [SkippableFact]
    public async Task Huge_pages_are_given_back()
    {
        Skip.If(
            File.ReadAllText("/sys/kernel/mm/transparent_hugepage/enabled").Contains("[never]", StringComparison.Ordinal),
            "this machine gives nobody huge pages"
        );
        var machine = InstantMachines.Bare(QemuVersion.Unpacked10, RamKind.Anonymous);
        await using var source = await Requirements.StartAsync(machine);
        await source.StopVcpusAsync();
        using (var memory = await source.OpenMemoryAsync())
        {
            var data = new byte[Length];
            new Random(7).NextBytes(data);
            memory.Write(From, data);
            // A hole within data, too long for a part of a granule.
            memory.Write(From + Length, data.AsSpan(0, (int)Huge / 2));
        }

        var snapshot = (await Agent.CaptureAsync(source, "snapshot")).Output;
        var truth = await File.ReadAllBytesAsync(await source.DumpMemoryAsync());

        await CheckAsync([], huge: Length);
        await CheckAsync(["--keep-small-pages"], huge: 0);

        async Task CheckAsync(string[] options, long huge)
        {
            await using var target = await VirtualMachine.StartAsync(machine with { Incoming = "defer", Paused = true });
            var outcome = await InstantMachines.RestoreAsync(snapshot, target, options);
            long start;
            using (var memory = await target.OpenMemoryAsync())
                start = memory.HostAddress;

            Assert.Equal(huge, HugeBytes(target.Pid, start + From, Length));
            Assert.Equal(0, HugeBytes(target.Pid, start + From + Length, Huge));
            var said = InstantMachines.InstantOf(outcome).GetProperty("hugeBytes").GetInt64();
            Assert.True(huge == 0 ? said == 0 : said >= huge, outcome.ToString());
            var restored = await File.ReadAllBytesAsync(await target.DumpMemoryAsync());
            Assert.True(truth.AsSpan().SequenceEqual(restored), "memory differs");
        }
    }

    /// <summary>The bytes of a range that lie in huge pages, by the kernel's flags of each page (proc_kpageflags).</summary>
    private static long HugeBytes(int pid, long start, long length)
    {
        const int CompoundHead = 15,
            CompoundTail = 16,
            TransparentHuge = 22;
        using var pagemap = File.OpenHandle($"/proc/{pid}/pagemap");
        using var flags = File.OpenHandle("/proc/kpageflags");
        var numbers = new byte[length / Page * sizeof(ulong)];
        Assert.Equal(numbers.Length, RandomAccess.Read(pagemap, numbers, start / Page * sizeof(ulong)));
        var one = new byte[sizeof(ulong)];
        long huge = 0;
        for (var i = 0; i < numbers.Length; i += sizeof(ulong))
        {
            var frame = BitConverter.ToUInt64(numbers, i);
            if (frame >> 63 == 0)
                continue;
            Assert.Equal(one.Length, RandomAccess.Read(flags, one, (long)(frame & ((1UL << 55) - 1)) * sizeof(ulong)));
            var bits = BitConverter.ToUInt64(one);
            if ((bits >> TransparentHuge & 1) != 0 && (bits >> CompoundHead & 1 | bits >> CompoundTail & 1) != 0)
                huge += Page;
        }

        return huge;
    }
}
