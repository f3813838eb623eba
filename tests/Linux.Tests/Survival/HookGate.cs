using System.Diagnostics;
using System.Globalization;

namespace Bgsnap.Linux.Tests.Survival;

/// <summary>A hook point at which the agent waits until the test lets it continue.</summary>
internal sealed class HookGate(Patient patient, string point, int count = 1) : IAsyncDisposable
{
    private readonly string _file = Path.Combine(patient.Machine.Folder, $"gate-{Guid.NewGuid():N}");

    /// <summary>BGSNAP_TEST_HOOK.</summary>
    public string Hook => string.Create(CultureInfo.InvariantCulture, $"wait:{point}:{count}:{_file}");

    /// <summary>Waits until the capturing process has reached the point.</summary>
    public async Task ReachedAsync(CaptureFamily family)
    {
        Assert.True(await family.FindWorkerAsync());
        var began = Stopwatch.GetTimestamp();
        while (!File.Exists(_file))
        {
            Assert.False(family.HasEnded, $"It ended before {point}: {family.Output}");
            Assert.True(Stopwatch.GetElapsedTime(began) < Patient.Patience, $"{point} was never reached");
            await Task.Delay(1);
        }
    }

    /// <summary>Lets it continue.</summary>
    public ValueTask DisposeAsync()
    {
        File.Delete(_file);
        return ValueTask.CompletedTask;
    }
}
