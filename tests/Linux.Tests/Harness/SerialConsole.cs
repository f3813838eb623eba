using System.Diagnostics;
using System.Net.Sockets;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>The guest's serial port. It listens before QEMU starts, so that no line is lost, and keeps every line.</summary>
public sealed class SerialConsole : IDisposable
{
    private readonly Lock _gate = new();
    private readonly List<string> _lines = [];
    private readonly List<GuestReport> _reports = [];
    private readonly List<LatencyReport> _latencies = [];
    private readonly Socket _listener;
    private readonly CancellationTokenSource _closed = new();
    private readonly Task _reading;
    private Socket? _peer;
    private TaskCompletionSource _changed = new(TaskCreationOptions.RunContinuationsAsynchronously);

    public SerialConsole(string path)
    {
        _listener = new Socket(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
        _listener.Bind(new UnixDomainSocketEndPoint(path));
        _listener.Listen(1);
        File.SetUnixFileMode(path, (UnixFileMode)0b110_110_110); // QEMU may run as another user
        _reading = Task.Run(ReadAsync);
    }

    public IReadOnlyList<string> Lines
    {
        get
        {
            lock (_gate)
                return [.. _lines];
        }
    }

    public IReadOnlyList<GuestReport> Reports
    {
        get
        {
            lock (_gate)
                return [.. _reports];
        }
    }

    public IReadOnlyList<LatencyReport> Latencies
    {
        get
        {
            lock (_gate)
                return [.. _latencies];
        }
    }

    public GuestReport? LatestReport
    {
        get
        {
            lock (_gate)
                return _reports.Count > 0 ? _reports[^1] : null;
        }
    }

    /// <summary>The first report for which the condition holds, among those seen and those to come.</summary>
    /// <param name="condition">The condition.</param>
    /// <param name="cancellation">Ends the wait.</param>
    public async Task<GuestReport> WaitForReportAsync(Func<GuestReport, bool> condition, CancellationToken cancellation)
    {
        ArgumentNullException.ThrowIfNull(condition);
        for (var next = 0; ; )
        {
            Task changed;
            lock (_gate)
            {
                for (; next < _reports.Count; next++)
                {
                    if (condition(_reports[next]))
                        return _reports[next];
                }

                changed = _changed.Task;
            }

            await changed.WaitAsync(cancellation).ConfigureAwait(false);
        }
    }

    /// <summary>Makes a Linux guest print its next line at once.</summary>
    public void Poke() => _peer?.Send("\n"u8);

    /// <summary>Makes a Linux guest give its spare memory back to its kernel, or allocate it again.</summary>
    public void MoveSpare() => _peer?.Send("s"u8);

    public void Dispose()
    {
        _closed.Cancel();
        _listener.Dispose();
        _peer?.Dispose();
        _reading.Wait();
        _closed.Dispose();
    }

    private async Task ReadAsync()
    {
        try
        {
            _peer = await _listener.AcceptAsync(_closed.Token).ConfigureAwait(false);
            using var reader = new StreamReader(new NetworkStream(_peer));
            while (await reader.ReadLineAsync(_closed.Token).ConfigureAwait(false) is { } line)
                Add(line.TrimEnd('\r'), Stopwatch.GetTimestamp());
        }
        catch (Exception e) when (e is OperationCanceledException or IOException or SocketException or ObjectDisposedException)
        {
            // QEMU is gone or we are closing: no more lines will come.
        }
    }

    private void Add(string line, long at)
    {
        TaskCompletionSource changed;
        lock (_gate)
        {
            _lines.Add(line);
            if (GuestReport.Parse(line, at) is { } report)
                _reports.Add(report);
            else if (LatencyReport.Parse(line, at) is { } latencies)
                _latencies.Add(latencies);
            (changed, _changed) = (_changed, new(TaskCreationOptions.RunContinuationsAsynchronously));
        }

        changed.SetResult();
    }
}
