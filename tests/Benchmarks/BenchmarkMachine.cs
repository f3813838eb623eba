using System.Diagnostics;
using Bgsnap.Linux.Tests.Harness;
using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Benchmarks;

/// <summary>A machine of one peer: paused unless it is being measured, and watched through a monitor of its own.</summary>
internal sealed class BenchmarkMachine : IAsyncDisposable
{
    private readonly string _observerSocket;
    private readonly long _ramAt;

    private BenchmarkMachine(VirtualMachine machine, string observerSocket, long ramAt)
    {
        Machine = machine;
        _observerSocket = observerSocket;
        _ramAt = ramAt;
        Observer = QmpClient.Connect(observerSocket);
        HugeBytesAtStart = HugeBytes();
    }

    internal VirtualMachine Machine { get; }

    /// <summary>Sees the events with QEMU's own time stamps; the agent uses another monitor.</summary>
    internal QmpClient Observer { get; }

    internal long HugeBytesAtStart { get; }

    /// <summary>Rate of the guest before its first capture.</summary>
    internal double? FirstRate { get; set; }

    internal static async Task<BenchmarkMachine> StartAsync(VirtualMachineOptions options)
    {
        var socket = Path.Combine(Path.GetTempPath(), $"bgsnap-bench-{Guid.NewGuid():n}.sock");
        var machine = await VirtualMachine.StartAsync(options with { ExtraArguments = ["-qmp", $"unix:{socket},server=on,wait=off"] });
        try
        {
            await machine.StopVcpusAsync();
            using var memory = await machine.OpenMemoryAsync();
            return new BenchmarkMachine(machine, socket, memory.HostAddress);
        }
        catch
        {
            await machine.DisposeAsync();
            throw;
        }
    }

    internal long HugeBytes() => ProcessCounters.AnonymousHugeBytes(Machine.Pid, _ramAt, (long)Machine.Options.MemoryMiB << 20);

    /// <summary>Lets the guest run until it has reported on everything up to this moment.</summary>
    internal Task ReportedAsync(long moment, string what) =>
        Machine.WaitForReportAsync(report => report.At >= moment, what, TimeSpan.FromMinutes(3));

    /// <summary>Lets the guest run for a while, as its reports show.</summary>
    internal Task RunAsync(double seconds) =>
        ReportedAsync(GuestHistory.After(Stopwatch.GetTimestamp(), seconds), $"report after {seconds} s");

    internal GuestHistory History() => new(Machine.Serial.Reports, Machine.Serial.Latencies);

    public async ValueTask DisposeAsync()
    {
        Observer.Dispose();
        await Machine.DisposeAsync();
        File.Delete(_observerSocket);
    }
}
