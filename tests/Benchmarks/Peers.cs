using System.Diagnostics;
using System.Text.Json;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;
using QmpEvent = Bgsnap.Qemu.Qmp.QmpEvent;

namespace Bgsnap.Benchmarks;

/// <summary>One way to take a background snapshot.</summary>
internal abstract class Peer(string name, string what)
{
    internal string Name => name;

    internal string What => what;

    internal static IReadOnlyList<Peer> All { get; } =
    [
        new AgentPeer("agent", "bgsnap-agent capture --engine agent", "agent"),
        new QemuPeer(),
        new AgentPeer("agent-qemu", "bgsnap-agent capture --engine qemu", "qemu"),
        new AgentPeer("agent-600Mi", "bgsnap-agent capture --engine agent --bandwidth-limit 600Mi", "agent", "--bandwidth-limit=600Mi"),
        new AgentPeer("agent-200Mi", "bgsnap-agent capture --engine agent --bandwidth-limit 200Mi", "agent", "--bandwidth-limit=200Mi"),
    ];

    /// <summary>Captures into a new path and returns when all of it is durable. Events are added as they come.</summary>
    internal abstract Task<PeerResult> CaptureAsync(BenchmarkMachine machine, string path, List<QmpEvent> events);
}

internal sealed class AgentPeer(string name, string what, string engine, params string[] options) : Peer(name, what)
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    internal override async Task<PeerResult> CaptureAsync(BenchmarkMachine machine, string path, List<QmpEvent> events)
    {
        // Not under the harness's guard: the shell's time would be counted as the agent's.
        var start = new ProcessStartInfo(TestFiles.Agent) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (
            var word in (string[])
                ["capture", "--qmp", machine.Machine.QmpSocket, "--output", path, "--engine", engine, "--json", .. options]
        )
            start.ArgumentList.Add(word);
        // A measurement may run what is refused for a guest that matters: QEMU's own engine before 8.1.
        start.Environment["BGSNAP_TEST_HOOK"] = "allow:unsafe-background-snapshot";
        using var agent = Process.Start(start)!;
        var errors = agent.StandardError.ReadToEndAsync();
        var peak = PeakOfWorkerAsync(agent);
        string? before = null,
            last = null;
        using var limit = new CancellationTokenSource(Limit);
        try
        {
            while (await agent.StandardOutput.ReadLineAsync(limit.Token) is { } line)
                (before, last) = (last, line);
            await agent.WaitForExitAsync(limit.Token);
        }
        catch (OperationCanceledException)
        {
            agent.Kill(entireProcessTree: true);
            throw new TimeoutException($"the agent did not end within {Limit.TotalMinutes} min");
        }

        events.AddRange(machine.Observer.TakeEvents());
        if (agent.ExitCode != 0 || last is null)
            throw new InvalidOperationException($"the agent ended with {agent.ExitCode}: {last} {(await errors).Trim()} after {before}");
        using var json = JsonDocument.Parse(last);
        var summary = json.RootElement.GetProperty("summary");
        return new PeerResult
        {
            WindowSeconds = summary.GetProperty("protectionWindowMicroseconds").GetInt64() / 1e6,
            StoredBytes = new DirectoryInfo(path).EnumerateFiles("*", SearchOption.AllDirectories).Sum(file => file.Length),
            PeakMemoryBytes = await peak,
            Faults = engine == "agent" ? summary.GetProperty("faults").GetInt64() : null,
            LongestFaultMilliseconds = engine == "agent" ? summary.GetProperty("faultMaxMicroseconds").GetInt64() / 1e3 : null,
            Timeline = summary.GetProperty("timeline").Clone(),
        };
    }

    /// <summary>VmHWM only grows, so the last reading before the end is the peak but for the last 20 ms.</summary>
    private static async Task<double?> PeakOfWorkerAsync(Process agent)
    {
        int? worker = null;
        double? peak = null;
        while (!agent.HasExited)
        {
            worker ??= ProcessCounters.ChildOf(agent.Id);
            if (worker is { } pid && ProcessCounters.PeakBytes(pid) is { } bytes)
                peak = Math.Max(peak ?? 0, bytes);
            await Task.Delay(20);
        }

        return peak;
    }
}

/// <summary>Stock QEMU by itself: it writes its stream to a file, with nothing in between and no limit of bandwidth.</summary>
internal sealed class QemuPeer() : Peer("qemu", "QEMU's background-snapshot to a file descriptor, then fsync")
{
    private static readonly TimeSpan Limit = TimeSpan.FromMinutes(10);

    internal override async Task<PeerResult> CaptureAsync(BenchmarkMachine machine, string path, List<QmpEvent> events)
    {
        var qmp = machine.Observer;
        using var file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write);
        Capabilities(qmp, true);
        try
        {
            qmp.Execute("migrate-set-parameters", """{"max-bandwidth":1099511627776}""").Dispose();
            qmp.Execute("getfd", """{"fdname":"benchmark"}""", (int)file.DangerousGetHandle()).Dispose();
            qmp.Execute("migrate", """{"uri":"fd:benchmark"}""").Dispose();
            var completed = await CompletedAsync(qmp, events);
            RandomAccess.FlushToDisk(file);
            return new PeerResult
            {
                WindowSeconds = events.FirstOrDefault(e => e.Name == "STOP") is { } stop ? (completed - stop.Timestamp) / 1e6 : null,
                StoredBytes = RandomAccess.GetLength(file),
            };
        }
        finally
        {
            Capabilities(qmp, false);
        }
    }

    private static void Capabilities(QmpClient qmp, bool on)
    {
        var state = on ? "true" : "false";
        qmp.Execute(
                "migrate-set-capabilities",
                $$"""{"capabilities":[{"capability":"background-snapshot","state":{{state}}},{"capability":"events","state":{{state}}}]}"""
            )
            .Dispose();
    }

    private static async Task<long> CompletedAsync(QmpClient qmp, List<QmpEvent> events)
    {
        var began = Stopwatch.GetTimestamp();
        while (Stopwatch.GetElapsedTime(began) < Limit)
        {
            foreach (var happened in qmp.TakeEvents())
            {
                events.Add(happened);
                if (happened.Name != "MIGRATION")
                    continue;
                using var data = JsonDocument.Parse(happened.Data);
                switch (data.RootElement.GetProperty("status").GetString())
                {
                    case "completed":
                        return happened.Timestamp;
                    case "failed" or "cancelled":
                        throw new InvalidOperationException($"background-snapshot failed: {Reason(qmp)}");
                }
            }

            await Task.Delay(2);
        }

        throw new TimeoutException($"background-snapshot did not end within {Limit.TotalMinutes} min");
    }

    private static string Reason(QmpClient qmp)
    {
        using var answer = qmp.Execute("query-migrate");
        return answer.Return.TryGetProperty("error-desc", out var reason) ? reason.GetString() : "no reason given";
    }
}
