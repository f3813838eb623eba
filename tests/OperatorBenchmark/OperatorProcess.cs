using System.Diagnostics;
using System.Globalization;
using System.Text.RegularExpressions;

namespace Bgsnap.OperatorBenchmark;

/// <summary>The operator as a process of its own: what it used, and what it asked of the API server.</summary>
internal sealed partial class OperatorProcess : IDisposable
{
    private const int MetricsPort = 18080,
        HealthPort = 18081;
    private readonly Process _process;
    private readonly HttpClient _http = new();

    public OperatorProcess(string program, string kubeconfig)
    {
        ProcessStartInfo start = new("dotnet") { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (
            string a in (string[])
                [
                    program,
                    "--agent-image=none",
                    $"--kubeconfig={kubeconfig}",
                    "--leader-election-namespace=none",
                    $"--metrics-address=127.0.0.1:{MetricsPort}",
                    $"--health-address=127.0.0.1:{HealthPort}",
                    "--log-level=Warning",
                ]
        )
            start.ArgumentList.Add(a);
        // As Dockerfile.operator has it.
        start.Environment["DOTNET_GCgen0size"] = "0x2000000";
        _process = Process.Start(start)!;
        _process.OutputDataReceived += (_, e) =>
        {
            if (e.Data is not null)
                Console.Error.WriteLine("operator: " + e.Data);
        };
        _process.ErrorDataReceived += (_, e) =>
        {
            if (e.Data is not null)
                Console.Error.WriteLine("operator: " + e.Data);
        };
        _process.BeginOutputReadLine();
        _process.BeginErrorReadLine();
    }

    public double CpuSeconds
    {
        get
        {
            _process.Refresh();
            return _process.TotalProcessorTime.TotalSeconds;
        }
    }

    /// <summary>Largest resident size so far, bytes.</summary>
    public long PeakMemory =>
        File.ReadLines($"/proc/{_process.Id}/status")
            .Where(l => l.StartsWith("VmHWM:", StringComparison.Ordinal))
            .Select(l => long.Parse(l.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) * 1024)
            .Single();

    public async Task Ready(CancellationToken stop)
    {
        while (true)
        {
            try
            {
                if ((await _http.GetAsync(new Uri($"http://127.0.0.1:{HealthPort}/readyz"), stop)).IsSuccessStatusCode)
                    return;
            }
            catch (HttpRequestException) when (!_process.HasExited)
            {
                // Not yet.
            }
            await Task.Delay(100, stop);
        }
    }

    /// <summary>Requests so far: reads and writes.</summary>
    public async Task<(long Reads, long Writes)> Requests(CancellationToken stop)
    {
        string text = await _http.GetStringAsync(new Uri($"http://127.0.0.1:{MetricsPort}/metrics"), stop);
        long reads = 0,
            writes = 0;
        foreach (Match m in Line().Matches(text))
        {
            long n = (long)double.Parse(m.Groups[2].ValueSpan, CultureInfo.InvariantCulture);
            if (m.Groups[1].Value == "GET")
                reads += n;
            else
                writes += n;
        }
        return (reads, writes);
    }

    public void Dispose()
    {
        if (!_process.HasExited)
        {
            _process.Kill();
            _process.WaitForExit();
        }
        _process.Dispose();
        _http.Dispose();
    }

    [GeneratedRegex("""^bgsnap_api_requests_total\{method="([A-Z]+)",code="[0-9]+"\} ([0-9.e+]+)$""", RegexOptions.Multiline)]
    private static partial Regex Line();
}
