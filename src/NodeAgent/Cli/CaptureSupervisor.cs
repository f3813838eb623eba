using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Engine.Capture;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Qemu;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Qemu.Vm;
using Bgsnap.SnapshotFormat.Store;
using Bgsnap.Vocabulary;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// Runs a capture in a child process and watches it. A silent child is killed, because a stopped agent hangs the guest while a dead one
/// frees it. The child does the same to itself (<see cref="GuestWatch"/>), in case the supervisor is stopped together with it.
/// </summary>
internal sealed class CaptureSupervisor(CaptureOptions options, IReadOnlyList<string> arguments, bool json)
{
    // While the guest waits for the child, the child must report often; otherwise a busy machine may take its time.
    private static readonly TimeSpan SilenceHoldingGuest = TimeSpan.FromMilliseconds(1200);
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(5);

    // libvirt may have died together with the child.
    private static readonly TimeSpan RecoveryPatience = TimeSpan.FromSeconds(10);

    // QEMU may be busy with a command of the child.
    private const int RecoveryTries = 3;

    // A killed process is gone within milliseconds, unless one of its threads sleeps in the kernel or its cgroup is frozen.
    private static readonly TimeSpan Dying = TimeSpan.FromMilliseconds(500);
    private const int SIGKILL = 9;
    private readonly LineOutbox _outbox = json ? new() : new(Console.Error.Write);
    private ErrorLine? _error,
        _failing;
    private SummaryLine? _summary;
    private Guid? _snapshot;
    private bool _resumed,
        _staysStopped;
    private long _killedAt;
    private long _heardAt = Environment.TickCount64;
    private readonly bool _terminal = !json && !Console.IsErrorRedirected;
    private readonly bool _outputWasThere = Path.Exists(options.Output);
    private volatile bool _killedForSilence;
    private volatile bool _holdsGuest;
    private volatile bool _ended;

    internal int Run()
    {
        ProcessStartInfo start = new("/proc/self/exe")
        {
            RedirectStandardInput = true,
            RedirectStandardOutput = true,
            UseShellExecute = false,
        };
        start.FileName = Environment.ProcessPath ?? "/proc/self/exe";
        foreach (string a in arguments)
            start.ArgumentList.Add(a);
        start.ArgumentList.Add("--worker");
        ChildLimits.Set(start);
        using Process child = Process.Start(start) ?? throw new InvalidOperationException("the capturing process could not be started");
        using EndSignals signals = new(() => Cancel(child));
        using CheckedProcess? held = CheckedProcess.TryOpen(child);
        ChildLimits.EndedFirst(held);
        // Without a watchdog nothing would free the guest from a child that hangs.
        _ = AgentThread.Start("watchdog", () => Watch(held), failed: _ => held?.Signal(SIGKILL));

        if (options.DiskMethod == DiskMethod.VolumeSnapshot)
            _ = AgentThread.Start("words", () => Forward(child), failed: _ => Cancel(child));
        // A slow reader of our output must not keep us from reading the child's output. If that reading fails, we no longer know what the
        // child does, so we end it, which frees the guest.
        Thread listener = AgentThread.Start("child", () => Listen(child), failed: _ => held?.Signal(SIGKILL));
        bool stuck = false;
        while (!listener.Join(50) && !stuck)
            stuck = Volatile.Read(ref _killedAt) is > 0 and long at && Environment.TickCount64 - at > Dying.TotalMilliseconds;
        if (stuck)
            TakeFrom(held);
        else
            child.WaitForExit();
        _ended = true;
        // The child writes its summary when everything is done. However it ended afterwards, its snapshot exists, and a guest that should
        // stay stopped is stopped.
        bool succeeded = !stuck && _summary is not null;
        if (!succeeded)
        {
            using Timer alive = AgentThread.StartTimer(
                "recovering",
                SayRecovering,
                failed: _ => { },
                TimeSpan.Zero,
                TimeSpan.FromSeconds(1)
            );
            _error ??= Recover(stuck ? null : child.ExitCode);
        }
        // The guest is safe: now a slow reader may take its time.
        if (_terminal)
            _outbox.Say("\n");
        _ = _outbox.Flush(Timeout.InfiniteTimeSpan);
        return succeeded ? SummaryText.Write(_summary!, json) : Failure.Report(_error!, json);
    }

    /// <summary>Shows the program that started us that we are alive.</summary>
    private void SayRecovering()
    {
        if (json)
            _outbox.Offer(
                JsonSerializer.Serialize(new ProgressLine("progress", "Recovering", 0, 0, 0, 0, 0, 0, 0), MessagesJson.Default.ProgressLine)
            );
    }

    private void Listen(Process child)
    {
        BoundedLineReader lines = new(child.StandardOutput.BaseStream);
        while (lines.Next() is { } line)
        {
            Volatile.Write(ref _heardAt, Environment.TickCount64);
            try
            {
                Take(line);
            }
            catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException)
            {
                // The line was cut off by the child's death.
            }
        }
    }

    private void Take(string line)
    {
        using JsonDocument document = JsonDocument.Parse(line);
        switch (document.RootElement.GetProperty("type").GetString())
        {
            case "progress":
                ProgressLine progress = document.RootElement.Deserialize(MessagesJson.Default.ProgressLine)!;
                _holdsGuest = CaptureProgress.HoldsGuest(progress.Phase);
                _failing = progress.Failing;
                // Each attempt begins a snapshot of its own.
                _snapshot = progress.Snapshot ?? _snapshot;
                if (json)
                    _outbox.Offer(line);
                else if (_terminal)
                    _outbox.Offer(ProgressBar.Text(progress));
                break;
            case "summary":
                _summary = document.RootElement.Deserialize(MessagesJson.Default.SummaryLine);
                break;
            case "error":
                _error = document.RootElement.Deserialize(MessagesJson.Default.ErrorLine);
                break;
        }
    }

    /// <summary>The child was killed but does not go away: takes from it what the guest waits for.</summary>
    private void TakeFrom(CheckedProcess? child)
    {
        int qemu = options.Monitor.Pid;
        try
        {
            if (qemu == 0 && options.Monitor.QmpSocket is { } path)
            {
                // The peer is known without sending anything; the child may hold QEMU's only monitor connection.
                using UnixSocket socket = QmpClient.Reach(path);
                qemu = socket.PeerPid();
            }
            else if (qemu == 0)
            {
                using IQmpMonitor libvirt = options.Monitor.Open();
                qemu = libvirt.PeerPid;
            }
        }
        catch (Exception e) when (e is QmpException or LinuxException or RefusedException)
        {
            // Either nobody waits for a page of QEMU, or its process cannot be found.
        }
        using CheckedProcess? process = CheckedProcess.TryOpen(qemu);
        if (child is not null)
            _ = StuckChild.TakeAway(child, process);
    }

    private TimeSpan Limit => _holdsGuest ? SilenceHoldingGuest : Silence;

    private static void Cancel(Process child)
    {
        try
        {
            child.StandardInput.Close();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // The child has ended already.
        }
    }

    /// <summary>Forwards our standard input to the child; its end cancels the capture.</summary>
    private static void Forward(Process child)
    {
        try
        {
            while (Console.In.ReadLine() is { } line)
            {
                child.StandardInput.WriteLine(line);
                child.StandardInput.Flush();
            }
            child.StandardInput.Close();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or ObjectDisposedException)
        {
            // The child has ended already.
        }
    }

    private void Watch(CheckedProcess? child)
    {
        while (!_ended)
        {
            Thread.Sleep(100);
            if (_ended || Environment.TickCount64 - Volatile.Read(ref _heardAt) < Limit.TotalMilliseconds)
                continue;
            _killedForSilence = true;
            child?.Signal(SIGKILL);
            Volatile.Write(ref _killedAt, Environment.TickCount64);
            return;
        }
    }

    /// <summary>The child died without a message: cleans up after it.</summary>
    private ErrorLine Recover(int? exitCode)
    {
        string what = _killedForSilence
            ? $"the capturing process did not answer for {Limit.TotalSeconds.ToString(CultureInfo.InvariantCulture)} s (stopped, "
                + "frozen or starved), and bgsnap killed it"
            : $"the capturing process died (exit code {exitCode}; 137: killed, by its own watchdog if a thread that the "
                + "guest waited for made no progress)";
        if (exitCode is null)
            what += "; it does not end (a volume that hangs, or a frozen cgroup), and bgsnap released the guest from it";
        string left = "";
        bool needsCare = true;
        for (int tries = 1; needsCare && tries <= RecoveryTries; tries++)
            (left, needsCare) = LookAfterGuest(childIsGone: exitCode is not null);
        // A volume that hangs would hang the supervisor too.
        bool kept = exitCode is not null && SweepOutput();
        if (kept)
            return new ErrorLine(
                "error",
                Reasons.AgentDied,
                $"{what}{left}. It had finished: the snapshot is complete and was kept"
                    + (_staysStopped ? ", and the guest stays stopped" : ""),
                ExitCode.Failed,
                needsCare
            );
        return _failing is { } reason
            ? reason with
            {
                Message = $"{reason.Message.TrimEnd('.')}; {what}{left}",
                NeedsCare = needsCare,
            }
            : new ErrorLine("error", Reasons.AgentDied, what + left + ". No snapshot was kept; try again", ExitCode.Failed, needsCare);
    }

    private (string Left, bool NeedsCare) LookAfterGuest(bool childIsGone)
    {
        string left = "";
        try
        {
            using IQmpMonitor qmp = options.Monitor.Open(RecoveryPatience);
            using CheckedProcess? process = QemuProcess.Hold(qmp, options.Monitor.Pid);
            // A child that does not go away keeps its claim, and its leftovers must be removed all the same.
            using QemuClaim? claim = process is null || !childIsGone ? null : QemuClaim.Take(process, QemuClaim.Moment, Reasons.QemuBusy);
            SweepResult swept = Leftovers.Sweep(qmp, process, options.GuestAgentSocket);
            _resumed |= swept.Resumed;
            if (swept.Thawed)
                left = "; the guest's file systems, which it had frozen, were thawed";
            if (swept.Removed > 0)
                left += $"; {swept.Removed} leftovers were removed from QEMU";
            if (swept.NotThawed is { } why)
                left += $"; {why}";
            FinalGuestState guest = FinalGuestState.Ask(qmp);
            _staysStopped = guest.Runs == false;
            return ($"{left}; {guest.Words}", !guest.Asked || swept.NotThawed is not null);
        }
        catch (Exception e)
            when (e is QmpException or CaptureFailedException or RefusedException or LinuxException or IOException or NotSupportedException)
        {
            return ($"; afterwards QEMU could not be queried: {e.Message}", true);
        }
    }

    /// <returns>Whether the child had finished a snapshot that leaves the guest stopped, and this process did not resume it.</returns>
    private bool SweepOutput()
    {
        try
        {
            // The child may have died after it gave the snapshot its name but before it reported success. A capture that is reported as
            // failed must leave no snapshot, or the next try with that name is refused.
            if (!_outputWasThere && IsChilds(options.Output))
            {
                if (options.After == AfterCapture.Stop && !_resumed)
                    return true;
                Directory.Delete(options.Output, recursive: true);
            }
            _ = SnapshotDirectoryWriter.SweepLeftovers(
                Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(options.Output)) is { Length: > 0 } p ? p : "."
            );
        }
        catch (Exception e) when (e is LinuxException or IOException or UnauthorizedAccessException)
        {
            // The next capture there sweeps again, or reports that the name is taken.
        }
        return false;
    }

    /// <summary>
    /// Whether the snapshot is the child's: another capture with the same output may have finished meanwhile, and must not be removed.
    /// </summary>
    private bool IsChilds(string output)
    {
        try
        {
            if (_snapshot is null || !Directory.Exists(output))
                return false;
            using SnapshotDirectory found = SnapshotDirectory.Open(output);
            return found.Manifest.Id == _snapshot;
        }
        catch (SnapshotCorruptException)
        {
            return false;
        }
    }
}
