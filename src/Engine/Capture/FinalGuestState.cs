using Bgsnap.Qemu.Qmp;

namespace Bgsnap.Engine.Capture;

/// <summary>The guest's state after a failed capture, as QEMU reports it; nothing is assumed.</summary>
/// <param name="Words">The text for the message.</param>
/// <param name="Asked">Whether QEMU answered.</param>
internal sealed record FinalGuestState(string Words, bool Asked)
{
    private static readonly TimeSpan Patience = TimeSpan.FromSeconds(5);

    /// <summary>Whether the guest runs; null: QEMU did not say.</summary>
    internal bool? Runs { get; init; }

    /// <summary>Asks QEMU. Never throws.</summary>
    internal static FinalGuestState Ask(IQmpMonitor qmp)
    {
        try
        {
            using QmpAnswer answer = qmp.Execute("query-status", timeout: Patience);
            QmpValue status = answer.Return;
            bool running = status.GetProperty("running").GetBoolean();
            return new(Say(running, status.GetProperty("status").GetString()), true) { Runs = running };
        }
        catch (QmpException e)
        {
            return new($"whether the guest runs could not be asked: {e.Message}", false);
        }
        catch (Exception e) when (e is KeyNotFoundException or InvalidOperationException)
        {
            return new("QEMU did not say whether the guest runs", false);
        }
    }

    internal static string Say(bool running, string state) =>
        running ? "the guest runs" : $"the guest does not run, its state is '{state}'";
}
