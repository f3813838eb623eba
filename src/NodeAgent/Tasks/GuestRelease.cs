using Bgsnap.ControllerRuntime.Controller;
using Bgsnap.Crds.V1Alpha1;
using Bgsnap.Linux;
using Bgsnap.NodeAgent.Processes;
using Bgsnap.Vocabulary;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.NodeAgent.Tasks;

/// <summary>
/// Frees the guest of a capture that died: resumes it if the capture had stopped it, thaws its file systems if the capture had frozen them,
/// and removes the capture's leftovers from QEMU.
/// </summary>
/// <param name="places">Opens what tasks name.</param>
/// <param name="program">The program that does it; null: this one.</param>
/// <param name="longest">Longest pause between two tries; null: ten seconds.</param>
internal sealed class GuestRelease(TaskResources places, string? program = null, TimeSpan? longest = null)
{
    private static readonly TimeSpan First = TimeSpan.FromMilliseconds(200),
        Longest = TimeSpan.FromSeconds(10);

    /// <summary>Tries until QEMU has reported the guest's state, or QEMU has ended.</summary>
    /// <param name="ns">Namespace of the VM's pod.</param>
    /// <param name="vm">The VM.</param>
    /// <param name="told">Called with the obstacle before each pause.</param>
    /// <param name="stop">This program ends; the next one starts over.</param>
    /// <returns>The guest's state in words for a message, and whether it was resumed because a capture had left it stopped.</returns>
    internal async Task<(string Words, bool Resumed)> Run(string ns, VirtualMachineTarget vm, Action<string> told, CancellationToken stop)
    {
        for (int failures = 0; ; failures++)
        {
            try
            {
                using TaskMonitor monitor = await places.OpenMonitor(ns, vm, stop).ConfigureAwait(false);
                using SafeFileHandle? guestAgent = await places.OpenGuestAgent(ns, vm, required: false, stop).ConfigureAwait(false);
                FreedLine freed = await FreeChild.Run(monitor, OpenInRoot.PathOf(guestAgent), stop, program).ConfigureAwait(false);
                return ($"{freed.Guest}{(freed.Thawed ? "; its file systems were thawed" : "")}", freed.Resumed);
            }
            catch (TaskFailure e)
                when (e.Reason
                        is Reasons.SourceEnded
                            or Reasons.SocketNotFound
                            or Reasons.QemuGone
                            or Reasons.ForeignProcess
                            or Reasons.BadTask
                )
            {
                return ($"its guest is gone: {e.Message}", false);
            }
            catch (Exception e)
                when (e
                        is TaskFailure
                            or LinuxException
                            or IOException
                            or HttpRequestException
                            or Bgsnap.ControllerRuntime.Client.ApiException
                )
            {
                told(e.Message);
                stop.ThrowIfCancellationRequested();
                await Task.Delay(Backoff.Of(failures, First, longest ?? Longest), stop).ConfigureAwait(false);
            }
        }
    }
}
