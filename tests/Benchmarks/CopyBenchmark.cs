using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Bgsnap.SnapshotFormat.Store;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Benchmarks;

/// <summary>The parts that every page of a capture goes through, one by one, on one thread, beside memcpy.</summary>
internal static unsafe partial class CopyBenchmark
{
    /// <summary>Runs the child whose memory is read: <see cref="BeRead"/>.</summary>
    internal const string ChildArgument = "--be-read";

    private const int Total = 1 << 30,
        Piece = 2 << 20,
        Granule = FormatV1.GranuleSize;

    internal sealed record Speed(string What, IReadOnlyList<double> GigabytesPerSecond);

    internal static IReadOnlyList<Speed> Run(int rounds)
    {
        using var child = StartChild();
        using var held = CheckedProcess.Open(child.Id);
        try
        {
            var remote = ulong.Parse(child.StandardOutput.ReadLine()!, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture);
            var source = HugeRandom(Total);
            var piece = HugeRandom(Piece);
            using var memfd = Memfd(source);
            using GranuleEncoder encoder = new(PageCompression.None);
            return Measure(
                rounds,
                [
                    ("memcpy, 1 GiB into a warm 2 MiB buffer", at => Buffer.MemoryCopy(source + at, piece, Piece, Piece)),
                    ("process_vm_readv, 1 GiB of another process likewise", at =>
                        ProcessMemory.Read(held, remote + (ulong)at, piece, Piece)
                    ),
                    ("pread, 1 GiB of a memfd likewise", at => ReadFile(memfd, piece, at)),
                    ("encoder without compression, 1 GiB in place", at => Encode(encoder, source + at)),
                    ("encoder without compression, a warm 2 MiB buffer again and again", _ => Encode(encoder, piece)),
                    ("process_vm_readv and encoder, piece by piece", at =>
                    {
                        ProcessMemory.Read(held, remote + (ulong)at, piece, Piece);
                        Encode(encoder, piece);
                    }),
                ]
            );
        }
        finally
        {
            child.StandardInput.Close();
            child.WaitForExit();
        }
    }

    /// <summary>The child: fills its memory, says where it is, and waits to be let go.</summary>
    internal static int BeRead()
    {
        Console.WriteLine($"{(ulong)HugeRandom(Total):x}");
        _ = Console.In.ReadToEnd();
        return 0;
    }

    internal static IEnumerable<string> Table(IReadOnlyList<Speed> speeds)
    {
        yield return "## copy: the copy path alone, one thread";
        yield return "";
        yield return "| | GB/s | share of memcpy, % |";
        yield return "|---|---|---|";
        var memcpy = Numbers.Median(speeds[0].GigabytesPerSecond.Select(v => (double?)v));
        foreach (var speed in speeds)
        {
            var values = speed.GigabytesPerSecond.Select(v => (double?)v).ToArray();
            yield return $"| {speed.What} | {Numbers.Cell(values, "0.00")} | {Numbers.Text(100 * Numbers.Median(values) / memcpy, "0")} |";
        }

        yield return "";
    }

    private static List<Speed> Measure(int rounds, IReadOnlyList<(string What, Action<long> Step)> contenders)
    {
        var speeds = contenders.Select(_ => new List<double>()).ToArray();
        for (var round = 0; round <= rounds; round++)
        {
            for (var i = 0; i < contenders.Count; i++)
            {
                var began = Stopwatch.GetTimestamp();
                for (long at = 0; at < Total; at += Piece)
                    contenders[i].Step(at);
                if (round > 0)
                    speeds[i].Add(Total / 1e9 / Stopwatch.GetElapsedTime(began).TotalSeconds);
            }
        }

        return [.. contenders.Select((c, i) => new Speed(c.What, speeds[i]))];
    }

    private static void Encode(GranuleEncoder encoder, byte* piece)
    {
        for (var at = 0; at < Piece; at += Granule)
            _ = encoder.Encode(piece + at, Granule, piece + at);
    }

    private static void ReadFile(SafeFileHandle file, byte* destination, long at)
    {
        for (var done = 0; done < Piece; )
        {
            var got = Libc.PRead(file, destination + done, (nuint)(Piece - done), at + done);
            done += got > 0 ? (int)got : throw LinuxException.Last("read a memfd");
        }
    }

    /// <summary>Random bytes that begin at a huge page; never freed, for the process ends with the measurement.</summary>
    private static byte* HugeRandom(int length)
    {
        var raw = NativeMemoryMap.Reserve((nuint)length + Piece);
        NativeMemoryMap.Populate(raw, (nuint)length + Piece);
        var aligned = raw + ((Piece - ((nuint)raw % Piece)) % Piece);
        new Random(1).NextBytes(new Span<byte>(aligned, length));
        return aligned;
    }

    private static SafeFileHandle Memfd(byte* content)
    {
        var fd = MemfdCreate("bgsnap-bench", 0);
        if (fd < 0)
            throw LinuxException.Last("memfd_create");
        SafeFileHandle file = new(fd, ownsHandle: true);
        for (long at = 0; at < Total; at += Piece)
            RandomAccess.Write(file, new ReadOnlySpan<byte>(content + at, Piece), at);
        return file;
    }

    private static Process StartChild()
    {
        ProcessStartInfo start = new(Environment.ProcessPath!) { RedirectStandardInput = true, RedirectStandardOutput = true };
        if (Path.GetFileNameWithoutExtension(start.FileName) == "dotnet")
            start.ArgumentList.Add(typeof(CopyBenchmark).Assembly.Location);
        start.ArgumentList.Add(ChildArgument);
        return Process.Start(start)!;
    }

    [LibraryImport("libc", EntryPoint = "memfd_create", SetLastError = true, StringMarshalling = StringMarshalling.Utf8)]
    private static partial int MemfdCreate(string name, uint flags);
}
