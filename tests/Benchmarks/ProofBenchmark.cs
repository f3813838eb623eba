using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;
using AgentLibc = Bgsnap.Linux.Libc;

namespace Bgsnap.Benchmarks;

/// <summary>
/// <c>-- proof</c>: what it costs to prove that memory was write-protected while it was copied. One thread does what a thread of a capture
/// does with a piece (read it, prove it, release it, encode it), with the proof and without it in turns.
/// </summary>
internal static unsafe class ProofBenchmark
{
    private const int Total = 256 << 20,
        Cluster = 2 << 20,
        Granule = FormatV1.GranuleSize;
    private const int MapShared = 1,
        MadvNoHugePage = 15;

    private sealed record Kind(string Name, Func<nint> Map);

    private sealed record Row(string Name, List<double?> Without, List<double?> With);

    internal static Command Command()
    {
        Option<int> rounds = new("--rounds")
        {
            HelpName = "N",
            Description = "Passes over 256 MiB of each kind that count, after one that does not",
            DefaultValueFactory = _ => 15,
        };
        Command command = new("proof", "What the proof of write protection costs; needs root.") { rounds };
        command.SetAction(parsed =>
        {
            var count = parsed.GetValue(rounds);
            Console.WriteLine(
                string.Create(
                    CultureInfo.InvariantCulture,
                    $"# Proof of protection\n\nMedian (least–most) of {count} rounds, with and without in turns; "
                        + $"{RuntimeInformation.OSDescription}, one thread.\n"
                )
            );
            Console.WriteLine(
                "| a piece is read, released and encoded | without the proof, µs | with it, µs | the proof, % |\n|---|---|---|---|"
            );
            foreach (var row in Run(count))
            {
                var cost = row.With.Zip(row.Without, (with, without) => 100 * (with / without - 1)).ToArray();
                Console.WriteLine(
                    $"| {row.Name} | {Numbers.Cell(row.Without, "0.0")} | {Numbers.Cell(row.With, "0.0")} | {Numbers.Cell(cost, "0.0")} |"
                );
            }
        });
        return command;
    }

    private static List<Row> Run(int rounds)
    {
        Kind[] kinds =
        [
            new("anonymous, 4 KiB pages", () => Anonymous(MadvNoHugePage)),
            new("anonymous, huge pages", () => Anonymous(AgentLibc.MADV_HUGEPAGE)),
            new("memfd, 4 KiB pages", Shared),
        ];
        List<Row> rows = [];
        foreach (var kind in kinds)
        {
            var memory = (byte*)kind.Map();
            new Random(1).NextBytes(new Span<byte>(memory, Total));
            using var uffd = OwnUserfaultfd.OpenForWriteProtection();
            uffd.RegisterWriteProtect((ulong)memory, Total);
            using var self = CheckedProcess.Open(Environment.ProcessId);
            using var pagemap = Pagemap.Open(self);
            foreach (var compression in (PageCompression[])[PageCompression.None, PageCompression.Lz4])
            {
                foreach (var piece in (int[])[Cluster, Granule])
                    rows.Add(
                        Measure(
                            $"{piece >> 10} KiB, {kind.Name}, {compression}",
                            rounds,
                            (ulong)memory,
                            piece,
                            compression,
                            uffd,
                            pagemap,
                            self
                        )
                    );
            }
            NativeMemoryMap.Free(memory, Total);
        }
        return rows;
    }

    private static Row Measure(
        string name,
        int rounds,
        ulong memory,
        int piece,
        PageCompression compression,
        Userfaultfd uffd,
        Pagemap pagemap,
        CheckedProcess self
    )
    {
        Row row = new(name, [], []);
        using GranuleEncoder encoder = new(compression);
        var buffer = NativeMemoryMap.Reserve(Cluster);
        var encoded = NativeMemoryMap.Reserve(Cluster);
        NativeMemoryMap.Populate(buffer, Cluster);
        NativeMemoryMap.Populate(encoded, Cluster);
        for (var round = 0; round <= rounds; round++)
        {
            // Which comes first changes, so that neither has the warmer cache.
            foreach (var proves in round % 2 == 0 ? (bool[])[false, true] : [true, false])
            {
                if (!uffd.TryProtect(memory, Total))
                    throw new InvalidOperationException("the memory could not be protected");
                var began = Stopwatch.GetTimestamp();
                for (ulong at = memory; at < memory + Total; at += (ulong)piece)
                {
                    ProcessMemory.Read(self, at, buffer, piece);
                    if (proves && pagemap.FirstUnprotected(at, at + (ulong)piece) != at + (ulong)piece)
                        throw new InvalidOperationException("a page that nobody wrote to is not protected");
                    if (!uffd.TryUnprotect(at, (ulong)piece))
                        throw new InvalidOperationException("a piece could not be released");
                    for (var i = 0; i < piece; i += Granule)
                        _ = encoder.Encode(buffer + i, Granule, encoded + i);
                }
                var each = Stopwatch.GetElapsedTime(began).TotalMicroseconds / (Total / piece);
                if (round > 0)
                    (proves ? row.With : row.Without).Add(each);
            }
        }
        NativeMemoryMap.Free(buffer, Cluster);
        NativeMemoryMap.Free(encoded, Cluster);
        return row;
    }

    private static nint Anonymous(int advice)
    {
        // From the next huge page on; what lies before it is never touched.
        var memory = (byte*)(((ulong)NativeMemoryMap.Allocate(Total + Cluster) + Cluster - 1) & ~(ulong)(Cluster - 1));
        _ = AgentLibc.MAdvise(memory, Total, advice);
        return (nint)memory;
    }

    private static nint Shared()
    {
        using SafeFileHandle file = File.OpenHandle(
            $"/dev/shm/bgsnap-bench-{Guid.NewGuid():N}",
            FileMode.CreateNew,
            FileAccess.ReadWrite,
            FileShare.None,
            FileOptions.DeleteOnClose
        );
        RandomAccess.SetLength(file, Total);
        void* p = AgentLibc.MMap(null, Total, AgentLibc.PROT_READ | AgentLibc.PROT_WRITE, MapShared, (int)file.DangerousGetHandle(), 0);
        return p != AgentLibc.MAP_FAILED ? (nint)p : throw LinuxException.Last("map shared memory");
    }
}
