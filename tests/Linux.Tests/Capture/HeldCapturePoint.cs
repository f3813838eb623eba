using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Linux.Tests.Capture;

/// <summary>Captures that wait at a point of TestHooks while a test changes the machine.</summary>
internal static class HeldCapturePoint
{
    /// <summary>
    /// Starts a capture, runs <paramref name="meanwhile"/> when the capture has reached the point, then lets the capture continue.
    /// </summary>
    public static async Task<CaptureOutcome> CaptureAsync(
        VirtualMachine vm,
        string point,
        Func<Task> meanwhile,
        params IEnumerable<string> options
    )
    {
        var reached = Path.Combine(vm.Folder, "reached");
        var capturing = Agent.TryCaptureAsync(vm, "snapshot", Agent.Hook($"wait:{point}:1:{reached}"), options);
        while (!File.Exists(reached))
        {
            if (capturing.IsCompleted)
                Assert.Fail($"{point} was never reached: {(await capturing).Process}");
            await Task.Delay(5);
        }

        try
        {
            await meanwhile();
        }
        finally
        {
            File.Delete(reached);
        }

        return await capturing;
    }
}
