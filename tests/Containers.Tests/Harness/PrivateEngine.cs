using System.Diagnostics;
using Bgsnap.E2E.Tests.Harness;

namespace Bgsnap.Containers.Tests.Harness;

/// <summary>A Docker engine of our own: hack/test-engine, which ends with its standard input, and so however the test run dies.</summary>
internal sealed class PrivateEngine : IAsyncDisposable
{
    private static readonly TimeSpan UpLimit = TimeSpan.FromMinutes(5);
    private static readonly TimeSpan DownLimit = TimeSpan.FromMinutes(1);
    private readonly Process _script;

    private PrivateEngine(Process script, string host) => (_script, Host) = (script, host);

    /// <summary>Its address, for DOCKER_HOST.</summary>
    internal string Host { get; }

    internal static async Task<PrivateEngine> StartAsync()
    {
        var script = Process.Start(
            new ProcessStartInfo(Path.Join(Repository.Root, "hack", "test-engine"))
            {
                RedirectStandardInput = true,
                RedirectStandardOutput = true,
                RedirectStandardError = true,
            }
        )!;
        var complaints = script.StandardError.ReadToEndAsync();
        using var limit = new CancellationTokenSource(UpLimit);
        try
        {
            if (await script.StandardOutput.ReadLineAsync(limit.Token) is { } host)
                return new PrivateEngine(script, host);
        }
        catch (OperationCanceledException)
        {
            // It is ended below, and what it said is told.
        }
        script.StandardInput.Close();
        throw new InvalidOperationException($"hack/test-engine gave no address:\n{await complaints}");
    }

    public async ValueTask DisposeAsync()
    {
        _script.StandardInput.Close();
        using var limit = new CancellationTokenSource(DownLimit);
        await _script.WaitForExitAsync(limit.Token);
        _script.Dispose();
    }
}
