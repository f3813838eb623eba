using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Qemu.Qmp;

/// <summary>
/// Named descriptors that QEMU's monitor keeps for us (<c>getfd</c>): as notes for the process that cleans up after a dead agent, and to
/// keep something open that our death would close. They stay until they are removed or QEMU ends. A descriptor set (<c>add-fd</c>) does
/// not: QEMU before 9.1 closes the unused descriptors of a set when its last monitor disconnects (monitor_fdsets_cleanup()).
/// </summary>
internal static class QemuMark
{
    /// <summary>Leaves a note.</summary>
    internal static void Put(IQmpMonitor qmp, string name) => PutOpen(qmp, name).Dispose();

    /// <summary>Leaves a note that the caller can still write to.</summary>
    /// <returns>The note's memory, which QEMU holds too.</returns>
    internal static SafeFileHandle PutOpen(IQmpMonitor qmp, string name)
    {
        SafeFileHandle note = NamedMemory.Create(name);
        try
        {
            Keep(qmp, name, (int)note.DangerousGetHandle());
            return note;
        }
        catch
        {
            note.Dispose();
            throw;
        }
    }

    /// <summary>Gives QEMU a duplicate of a descriptor.</summary>
    internal static void Keep(IQmpMonitor qmp, string name, int descriptor) =>
        qmp.Execute("getfd", QmpJson.Object(("fdname", name)), descriptor).Dispose();

    /// <summary>Removes a note.</summary>
    /// <returns>
    /// Whether the note was there. This holds even if libvirt died during the request, when its later answer says only that the note is
    /// gone.
    /// </returns>
    internal static bool TakeNote(IQmpMonitor qmp, string name)
    {
        bool sure = qmp.TakesWholeBatches || IsHeldBy(qmp.PeerPid, name);
        return Take(qmp, name) && sure;
    }

    private static bool IsHeldBy(int pid, string name)
    {
        using CheckedProcess? process = CheckedProcess.TryOpen(pid);
        return process is not null && NamedMemory.IsHeldBy(process, name);
    }

    /// <summary>Removes a note or a kept descriptor.</summary>
    /// <returns>Whether it was there, or may have been: see <see cref="TakeNote"/>.</returns>
    internal static bool Take(IQmpMonitor qmp, string name)
    {
        try
        {
            qmp.Execute("closefd", QmpJson.Object(("fdname", name))).Dispose();
            return true;
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return false; // QEMU knows no descriptor of that name
        }
    }
}
