using System.Diagnostics;
using System.Globalization;
using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Processes;

/// <summary>
/// Limits of a process that works on one machine. Whatever a hostile QEMU, guest or file can make grow is on the managed heap, which is
/// limited to <see cref="ManagedBytes"/>; everything else is sized before it is allocated, by options and by the machine's RAM.
/// </summary>
internal static class ChildLimits
{
    /// <summary>Most bytes of the managed heap.</summary>
    internal const long ManagedBytes = 512L << 20;
    private const string EndedEarly = "1000"; // the highest value there is: a pod of the class Burstable starts with up to 999

    /// <summary>Limits a process before it is started, and the processes that it starts.</summary>
    internal static void Set(ProcessStartInfo start) =>
        start.Environment["DOTNET_GCHeapHardLimit"] = ManagedBytes.ToString("X", CultureInfo.InvariantCulture);

    /// <summary>Makes the kernel end this process before others when memory runs out, above all before the node's agent.</summary>
    internal static void EndedFirst(CheckedProcess? child)
    {
        try
        {
            if (child is not null)
                File.WriteAllText(child.At("oom_score_adj"), EndedEarly);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The process has ended, or we may not change its score: it works without that.
        }
    }
}
