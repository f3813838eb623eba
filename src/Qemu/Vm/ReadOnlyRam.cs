using System.Text.Json;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Memory that is mapped read-only into QEMU, such as a read-only NVDIMM. QEMU lists it with its other RAM and sends it in a migration, but
/// the QEMU that loads it there ends with SIGSEGV.
/// </summary>
internal static class ReadOnlyRam
{
    /// <summary>The memory backends that are read-only, by id.</summary>
    internal static IReadOnlyList<string> Backends(IQmpMonitor qmp)
    {
        List<string> found = [];
        using QmpAnswer objects = qmp.Execute("qom-list", QmpJson.Object(("path", "/objects")));
        foreach (QmpValue child in objects.Return.EnumerateArray())
        {
            string path = $"/objects/{child.GetProperty("name").GetString()}";
            if (child.GetProperty("type").GetString() == "child<memory-backend-file>" && IsReadOnly(qmp, path))
                found.Add(path["/objects/".Length..]);
        }
        return found;
    }

    /// <summary>Refuses a machine that could not be restored.</summary>
    /// <exception cref="RefusedException">It has such memory.</exception>
    internal static void Refuse(IQmpMonitor qmp)
    {
        if (Backends(qmp) is [string id, ..])
            throw new RefusedException(
                Reasons.ReadOnlyMemory,
                $"memory backend {id} is read-only: QEMU cannot load a snapshot of it; remove its device (an NVDIMM) from the VM, "
                    + "or give it a private copy (share=off, and rom=off in QEMU 8.2 or later)"
            );
    }

    /// <summary>
    /// Since QEMU 8.2 <c>rom</c> decides, and a file that is opened read-only can be the basis of private, writable memory.
    /// </summary>
    private static bool IsReadOnly(IQmpMonitor qmp, string path)
    {
        if (
            !(
                Property(qmp, path, "readonly") is { ValueKind: JsonValueKind.True }
                || Property(qmp, path, "rom") is { ValueKind: JsonValueKind.String } on && on.GetString() == "on"
            )
        )
            return false;
        return !(Property(qmp, path, "rom") is { ValueKind: JsonValueKind.String } rom && rom.GetString() == "off");
    }

    private static QmpValue? Property(IQmpMonitor qmp, string path, string name)
    {
        try
        {
            using QmpAnswer value = qmp.Execute("qom-get", QmpJson.Object(("path", path), ("property", name)));
            return value.Return.Clone();
        }
        catch (QmpException e) when (e.ErrorClass is not null)
        {
            return null; // older than the property
        }
    }
}
