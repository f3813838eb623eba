using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using System.Text.Json;
using Bgsnap.NodeAgent.Capture;
using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;
using Bgsnap.NodeAgent.Store;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// Runs a capture in a child process and watches over it: a child that falls silent is killed, since a stopped agent hangs the
/// guest while a dead one sets it free.
/// </summary>
internal sealed class CaptureSupervisor(CaptureOptions options, IReadOnlyList<string> arguments, bool json)
{
    // While the guest waits for the child it must be heard often; else a busy machine may take its time.
    private static readonly TimeSpan SilenceHoldingGuest = TimeSpan.FromMilliseconds(1200);
    private static readonly TimeSpan Silence = TimeSpan.FromSeconds(5);
    // libvirt may have died with the child.
    private static readonly TimeSpan RecoveryPatience = TimeSpan.FromSeconds(10);
    private const int SIGKILL = 9;
    private long _heardAt = Environment.TickCount64;
    private readonly bool _outputWasThere = Path.Exists(options.Output);
    private bool _killedForSilence;
    private volatile bool _holdsGuest;
    private volatile bool _ended;

    internal int Run()
    {
        ProcessStartInfo start = new("/proc/self/exe") { RedirectStandardInput = true, RedirectStandardOutput = true, UseShellExecute = false };
        start.FileName = Environment.ProcessPath ?? "/proc/self/exe";
        foreach (string a in arguments)
            start.ArgumentList.Add(a);
        start.ArgumentList.Add("--worker");
        using Process child = Process.Start(start) ?? throw new InvalidOperationException("the capturing process could not be started");
        using PosixSignalRegistration interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, c => Cancel(c, child));
        using PosixSignalRegistration terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, c => Cancel(c, child));
        Thread watchdog = new(() => Watch(child.Id), 256 * 1024) { IsBackground = true, Name = "watchdog" };
        watchdog.Start();

        if (options.DiskMethod == DiskMethod.VolumeSnapshot)
            new Thread(() => Forward(child), 256 * 1024) { IsBackground = true, Name = "words" }.Start();
        ProgressBar bar = new(json);
        ErrorLine? error = null;
        SummaryLine? summary = null;
        while (child.StandardOutput.ReadLine() is { } line)
        {
            Volatile.Write(ref _heardAt, Environment.TickCount64);
            switch (TypeOf(line))
            {
                case "progress":
                    ProgressLine progress = JsonSerializer.Deserialize(line, MessagesJson.Default.ProgressLine)!;
                    _holdsGuest = CaptureProgress.HoldsGuest(progress.Phase);
                    bar.Show(progress, line);
                    break;
                case "summary":
                    summary = JsonSerializer.Deserialize(line, MessagesJson.Default.SummaryLine);
                    break;
                case "error":
                    error = JsonSerializer.Deserialize(line, MessagesJson.Default.ErrorLine);
                    break;
            }
        }
        child.WaitForExit();
        _ended = true;
        bar.End();
        if (summary is not null && child.ExitCode == ExitCode.Success)
            return SummaryText.Write(summary, json);
        if (error is null)
            error = Recover(child.ExitCode);
        return Failure.Report(error, json);
    }

    private TimeSpan Limit => _holdsGuest ? SilenceHoldingGuest : Silence;

    private static void Cancel(PosixSignalContext context, Process child)
    {
        context.Cancel = true;
        try
        {
            child.StandardInput.Close();
        }
        catch (Exception e) when (e is IOException or InvalidOperationException)
        {
            // It has ended already.
        }
    }

    /// <summary>Hands on what comes on our standard input; its end gives up.</summary>
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
            // It has ended already.
        }
    }

    private void Watch(int pid)
    {
        while (!_ended)
        {
            Thread.Sleep(100);
            if (_ended || Environment.TickCount64 - Volatile.Read(ref _heardAt) < Limit.TotalMilliseconds)
                continue;
            _killedForSilence = true;
            _ = Libc.Kill(pid, SIGKILL);
            return;
        }
    }

    /// <summary>The child died without a word: clean up behind it.</summary>
    private ErrorLine Recover(int exitCode)
    {
        string what = _killedForSilence
            ? $"the capturing process did not answer for {Limit.TotalSeconds.ToString(CultureInfo.InvariantCulture)} s (stopped, frozen or starved) and was killed to set the guest free"
            : $"the capturing process died (exit code {exitCode}); the kernel set the guest free";
        string left = "";
        try
        {
            using IQmpMonitor qmp = options.Monitor.Open(RecoveryPatience);
            Swept swept = Leftovers.Sweep(qmp, options.Monitor.Pid != 0 ? options.Monitor.Pid : qmp.PeerPid, options.GuestAgentSocket);
            if (swept.Thawed)
                left = "; the guest's file systems, which it had frozen, were thawed";
            if (swept.Removed > 0)
                left += $"; {swept.Removed} leftovers were removed from QEMU";
            if (swept.NotThawed is { } why)
                left += $"; {why}";
        }
        catch (Exception e) when (e is QmpException or CaptureFailedException or CaptureRefusedException or LinuxException or IOException or NotSupportedException)
        {
            left += $"; QEMU could not be looked at afterwards: {e.Message}";
        }
        SweepOutput();
        return new ErrorLine("error", "AgentDied", what + left + ". No snapshot was kept; try again", ExitCode.Failed);
    }

    private void SweepOutput()
    {
        try
        {
            // It may have died between giving the snapshot its name and telling us: what is called failed must not stay, or the next try
            // with that name is refused.
            if (!_outputWasThere && Directory.Exists(options.Output))
                Directory.Delete(options.Output, recursive: true);
            _ = SnapshotDirectoryWriter.SweepLeftovers(Path.GetDirectoryName(Path.TrimEndingDirectorySeparator(options.Output)) is { Length: > 0 } p ? p : ".");
        }
        catch (Exception e) when (e is LinuxException or IOException or UnauthorizedAccessException)
        {
            // The next capture there sweeps again, or says that the name is taken.
        }
    }

    private static string? TypeOf(string line)
    {
        try
        {
            using JsonDocument d = JsonDocument.Parse(line);
            return d.RootElement.TryGetProperty("type", out JsonElement t) ? t.GetString() : null;
        }
        catch (JsonException)
        {
            return null; // cut off by its death
        }
    }
}
