using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Restore;

/// <summary>Migration capabilities with which a QEMU expects another stream than the plain one that a restore sends.</summary>
internal static class TargetCapabilities
{
    private static readonly string[] OtherStreams = ["multifd", "mapped-ram", "x-ignore-shared", "x-colo", "postcopy-preempt"];

    /// <summary>Refuses a target that would not understand the stream, before its memory is changed.</summary>
    /// <exception cref="RestoreRefusedException">One of these capabilities is on.</exception>
    internal static void Refuse(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate-capabilities");
        string[] on =
        [
            .. answer
                .Return.EnumerateArray()
                .Where(c => c.GetProperty("state").GetBoolean())
                .Select(c => c.GetProperty("capability").GetString())
                .Intersect(OtherStreams),
        ];
        if (on.Length > 0)
            throw new RestoreRefusedException(
                Reasons.TargetCapability,
                $"the migration {(on.Length == 1 ? "capability" : "capabilities")} {string.Join(", ", on)} of the target must be "
                    + "off: with it QEMU expects another kind of stream (migrate-set-capabilities)"
            );
    }
}
