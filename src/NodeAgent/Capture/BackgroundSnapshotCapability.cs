using System.Text.Json;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Capture;

/// <summary>QEMU's <c>background-snapshot</c> migration capability, switched on for the time of a capture (qapi/migration.json, since 6.0).</summary>
internal sealed class BackgroundSnapshotCapability : IDisposable
{
    private const string Name = "background-snapshot";
    private readonly IQmpMonitor _qmp;

    private BackgroundSnapshotCapability(IQmpMonitor qmp) => _qmp = qmp;

    /// <exception cref="EngineUnavailableException">QEMU or its machine does not allow it; its reason is in the message.</exception>
    internal static BackgroundSnapshotCapability Enable(IQmpMonitor qmp)
    {
        try
        {
            Set(qmp, true);
            return new BackgroundSnapshotCapability(qmp);
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            throw new EngineUnavailableException($"QEMU's own background-snapshot is not to be had: {e.Message}");
        }
    }

    private static void Set(IQmpMonitor qmp, bool on)
    {
        string list = $"[{QmpJson.Object(("capability", Name), ("state", on))}]";
        using JsonDocument _ = qmp.Execute("migrate-set-capabilities", QmpJson.Object(("capabilities", new QmpJson.Raw(list))));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        try
        {
            Set(_qmp, false);
        }
        catch (QmpException)
        {
            // QEMU is gone, or still busy with what failed: the next capture sets it anew.
        }
    }
}
