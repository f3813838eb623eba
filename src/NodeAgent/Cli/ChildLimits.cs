using System.Diagnostics;
using System.Globalization;
using Bgsnap.NodeAgent.Linux;

namespace Bgsnap.NodeAgent.Cli;

/// <summary>
/// What a process that works on one machine may take. What a hostile QEMU, guest or file can make grow lies on the managed heap, which ends
/// at
/// <see cref="ManagedBytes"/>; everything else is sized before it is asked for, by options and by the machine's RAM.
/// </summary>
internal static class ChildLimits
{
    /// <summary>Most bytes of the managed heap.</summary>
    internal const long ManagedBytes = 512L << 20;
    private const string EndedEarly = "1000"; // the most there is: a pod of the class Burstable begins with up to 999

    /// <summary>Limits a process that is to be started, and those that it starts.</summary>
    internal static void Set(ProcessStartInfo start) =>
        start.Environment["DOTNET_GCHeapHardLimit"] = ManagedBytes.ToString("X", CultureInfo.InvariantCulture);

    /// <summary>When there is too little memory, the kernel is to end this process before others, the node's agent above all.</summary>
    internal static void EndedFirst(CheckedProcess? child)
    {
        try
        {
            if (child is not null)
                File.WriteAllText(child.At("oom_score_adj"), EndedEarly);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // It has ended, or is not ours to rate: it works all the same.
        }
    }
}
