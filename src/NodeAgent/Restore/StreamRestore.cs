using System.Text.Json;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;
using Bgsnap.NodeAgent.Streams;
using Bgsnap.NodeAgent.Vm;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Restore;

/// <summary>
/// Restores into a QEMU that was started with <c>-incoming defer</c>, by handing it the stream through a pipe.
/// </summary>
internal static class StreamRestore
{
    private const string DescriptorName = "agent-bgsnap-incoming";
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(60);

    /// <returns>From the command until the guest ran.</returns>
    internal static TimeSpan Run(string directory, string qmpSocket, Action<RamProgress>? progress, CancellationToken cancel)
    {
        long began = Environment.TickCount64;
        using SnapshotStream stream = SnapshotStream.Open(directory);
        using QmpClient qmp = QmpClient.Connect(qmpSocket);
        CheckTarget(stream, qmp);
        Exception? broken = Send(stream, qmp, progress, cancel);
        // QEMU's own word comes first, unless it is our data that is bad.
        if (broken is SnapshotCorruptException or OperationCanceledException)
            throw broken;
        WaitUntilRunning(qmp, broken);
        return TimeSpan.FromMilliseconds(Environment.TickCount64 - began);
    }

    private static void CheckTarget(SnapshotStream stream, QmpClient qmp)
    {
        string state = Status(qmp);
        if (state != "inmigrate")
            throw new RestoreRefusedException($"the target's state is '{state}': start QEMU with -incoming defer (and the same machine and devices)");
        QemuProcess target = QemuProcess.Identify(qmp);
        List<string> differences = [];
        if (target.MachineType != stream.Manifest.Machine.Type)
            differences.Add($"machine type {target.MachineType} instead of {stream.Manifest.Machine.Type}");
        Dictionary<string, RamBlockLine> blocks = RamBlockTable.Parse(qmp.ExecuteHuman("info ramblock")).ToDictionary(b => b.Name);
        foreach (RamBlockLayout b in stream.Blocks)
        {
            if (!blocks.TryGetValue(b.Name, out RamBlockLine? line))
                differences.Add($"no RAM block {b.Name} ({b.UsedLength >> 10} KiB)");
            // A resizable block (tables, ROMs) has more reserved than used, and takes the stream's length within that.
            else if (b.UsedLength > line.MaxLength || line.UsedLength == line.MaxLength && b.UsedLength != line.UsedLength)
                differences.Add($"RAM block {b.Name} has {line.UsedLength >> 10} KiB instead of {b.UsedLength >> 10}");
        }
        foreach (string extra in blocks.Keys.Except(stream.Blocks.Select(b => b.Name)))
            differences.Add($"RAM block {extra} is not in the snapshot");
        if (differences.Count > 0)
            throw new RestoreRefusedException($"the target is not the machine that was captured: {string.Join("; ", differences)}");
    }

    private static Exception? Send(SnapshotStream stream, QmpClient qmp, Action<RamProgress>? progress, CancellationToken cancel)
    {
        using Pipe pipe = Pipe.Create();
        // The stream's writer makes it large. QEMU alone may hold the end that is read, or its death would go unnoticed.
        using (pipe.Read)
            qmp.Execute("getfd", QmpJson.Object(("fdname", DescriptorName)), (int)pipe.Read.DangerousGetHandle()).Dispose();
        qmp.Execute("migrate-incoming", QmpJson.Object(("uri", $"fd:{DescriptorName}"))).Dispose();
        try
        {
            _ = stream.Write(pipe.Write, progress, cancel);
            return null;
        }
        catch (Exception e) when (e is IOException or MigrationStreamException or SnapshotCorruptException or OperationCanceledException)
        {
            return e;
        }
    }

    private static void WaitUntilRunning(QmpClient qmp, Exception? broken)
    {
        try
        {
            for (long end = Environment.TickCount64 + (long)Patience.TotalMilliseconds; Environment.TickCount64 < end; Thread.Sleep(2))
            {
                string state = Status(qmp);
                if (state is "running" or "paused" or "suspended")
                    return;
                using JsonDocument migration = qmp.Execute("query-migrate");
                JsonElement info = migration.RootElement.GetProperty("return");
                if (info.TryGetProperty("status", out JsonElement s) && s.GetString() is "failed")
                    throw new RestoreFailedException($"QEMU refused the snapshot: {(info.TryGetProperty("error-desc", out JsonElement d) ? d.GetString() : "no reason given")}");
            }
        }
        catch (QmpException e)
        {
            throw new RestoreFailedException($"QEMU ended while it loaded the snapshot; its standard error says why (devices that differ from the captured machine, mostly): {broken?.Message ?? e.Message}");
        }
        throw new RestoreFailedException($"QEMU did not run the guest within {Patience.TotalSeconds:0} s{(broken is null ? "" : $": {broken.Message}")}");
    }

    private static string Status(QmpClient qmp)
    {
        using JsonDocument answer = qmp.Execute("query-status");
        return answer.RootElement.GetProperty("return").GetProperty("status").GetString() ?? "";
    }
}
