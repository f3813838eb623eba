using System.Diagnostics;
using Bgsnap.Engine.Disks;
using Bgsnap.Linux;
using Bgsnap.Linux.Tests.Harness;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Benchmarks;

/// <summary>A disk that nobody writes to, copied from the same export by us and by qemu-img convert, in turn.</summary>
internal static class DisksCopyBenchmark
{
    private const int DataMiB = 1024,
        DiskMiB = 4096,
        PieceMiB = 16;

    /// <param name="What">Who copied.</param>
    /// <param name="ReadSeconds">Until the export was not needed any more; empty where that is the end.</param>
    /// <param name="Seconds">Until the file was durable, and hashed where it is.</param>
    internal sealed record Contender(string What, List<double> ReadSeconds, List<double> Seconds);

    internal static async Task<IReadOnlyList<Contender>> RunAsync(int rounds, string output)
    {
        await using DiskTools tools = new();
        await MakeDiskAsync(tools["disk.raw"]);
        var (_, _) = await tools.ServeAsync("disk.raw", "raw", 1);
        var socket = tools["nbd0.sock"];
        var target = Path.Combine(output, "copy.qcow2");
        Contender convert = new("qemu-img convert -t writeback", [], []);
        (Contender Ours, int Connections)[] ours =
        [
            .. ((int[])[1, 2, 4]).Select(n => (new Contender($"ours, connections: {n}", [], []), n)),
        ];
        for (var round = 0; round <= rounds; round++)
        {
            foreach (var (contender, connections) in ours)
            {
                var began = Stopwatch.GetTimestamp();
                double read = 0;
                Copy(tools.Connect(socket, connections), target, () => read = Stopwatch.GetElapsedTime(began).TotalSeconds);
                Note(contender, round, Stopwatch.GetElapsedTime(began).TotalSeconds, read);
                await DiskTools.RunAsync(DiskTools.QemuImg, "compare", "-f", "raw", "-F", "qcow2", tools["disk.raw"], target);
                File.Delete(target);
            }

            var start = Stopwatch.GetTimestamp();
            await DiskTools.RunAsync(
                DiskTools.QemuImg,
                "convert",
                "-f",
                "raw",
                "-O",
                "qcow2",
                "-t",
                "writeback",
                $"nbd+unix:///agent-disk0?socket={socket}",
                target
            );
            Note(convert, round, Stopwatch.GetElapsedTime(start).TotalSeconds, null);
            File.Delete(target);
        }

        return [.. ours.Select(o => o.Ours), convert];
    }

    internal static IEnumerable<string> Table(IReadOnlyList<Contender> contenders)
    {
        yield return $"## disks-copy: an idle raw disk of {DiskMiB} MiB, {DataMiB} MiB of it random data, the rest a hole";
        yield return "";
        yield return "| | read, s | durable (ours: and hashed), s | of the whole, MB of data per s |";
        yield return "|---|---|---|---|";
        foreach (var c in contenders)
        {
            double?[] seconds = [.. c.Seconds.Select(s => (double?)s)];
            yield return $"| {c.What} | {Numbers.Cell(c.ReadSeconds.Select(s => (double?)s), "0.00")} | {Numbers.Cell(seconds, "0.00")} | "
                + $"{Numbers.Cell(seconds.Select(s => DataMiB * 1.048576 / s), "0")} |";
        }

        yield return "";
    }

    private static void Note(Contender contender, int round, double seconds, double? read)
    {
        if (round == 0)
            return;
        contender.Seconds.Add(seconds);
        if (read is { } r)
            contender.ReadSeconds.Add(r);
    }

    private static void Copy(UnixSocket[] sockets, string target, Action read)
    {
        using SafeFileHandle file = FileSyscalls.OpenAt(
            null,
            target,
            FileSyscalls.O_WRONLY | FileSyscalls.O_CREAT | FileSyscalls.O_EXCL,
            0x180
        );
        _ = DiskCopy.Run(sockets, "agent-disk0", file, target, new DiskCopyHooks { Read = read }, default);
        // Nothing is behind the export that would mind.
        foreach (var socket in sockets)
            socket.Dispose();
    }

    private static async Task MakeDiskAsync(string path)
    {
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.ReadWrite);
        RandomAccess.SetLength(file, (long)DiskMiB << 20);
        var piece = new byte[PieceMiB << 20];
        Random random = new(1);
        for (var i = 0; i < DataMiB / PieceMiB; i++)
        {
            random.NextBytes(piece);
            await RandomAccess.WriteAsync(file, piece, (long)i * (DiskMiB / DataMiB) * piece.Length);
        }
    }
}
