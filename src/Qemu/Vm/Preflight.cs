using System.Text.Json;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Qemu.Vm;

/// <summary>Refuses, with the reason, a machine that cannot be captured correctly (DESIGN section 9).</summary>
internal static class Preflight
{
    private static readonly (string Prefix, string Why)[] Refused =
    [
        ("vfio-", "its DMA bypasses the write protection of guest memory"),
        ("vhost-user-", "its other process bypasses the write protection of guest memory"),
        ("virtio-mem", "it plugs and unplugs memory at any moment"),
        ("vhost-vdpa", "its DMA bypasses the write protection of guest memory"),
    ];

    /// <summary>The QOM folders of the machine's devices: with an id, without an id, and those that come with the machine.</summary>
    internal static readonly string[] DeviceFolders = ["/machine/peripheral", "/machine/peripheral-anon", "/machine/unattached"];

    /// <returns>
    /// True: a balloon may return free pages at any moment. That is harmless for anonymous memory, where the kernel announces each discard.
    /// </returns>
    internal static bool Check(IQmpMonitor qmp)
    {
        CheckStatus(qmp);
        CheckMigration(qmp);
        IoThreads.RefuseLostInterrupts(qmp);
        return RefuseDevices(qmp);
    }

    /// <summary>Refuses devices that reach guest memory past QEMU's page tables.</summary>
    /// <returns>True: a balloon returns free pages.</returns>
    internal static bool RefuseDevices(IQmpMonitor qmp)
    {
        bool reports = false;
        foreach (string path in DeviceFolders)
            reports |= CheckDevices(qmp, path);
        return reports;
    }

    private static void CheckStatus(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-status");
        string status = answer.Return.GetProperty("status").GetString();
        if (status == "suspended")
        {
            throw new RefusedException(
                Reasons.GuestSuspended,
                "the guest has suspended itself (ACPI S3): QEMU saves its devices as those of a running guest, which would not wake up "
                    + "where it is restored; wake it up (system_wakeup), and try again"
            );
        }
        string hint = status is "io-error"
            ? "; a disk failed or is full, query-block's io-status says which: repair that and resume the guest (cont)"
            : "";
        if (status is not ("running" or "paused"))
            throw new RefusedException(
                Reasons.GuestNotRunning,
                $"the guest's state is '{status}': only a running or paused guest can be captured{hint}"
            );
    }

    private static void CheckMigration(IQmpMonitor qmp)
    {
        using QmpAnswer answer = qmp.Execute("query-migrate");
        QmpValue info = answer.Return;
        if (MigrationState.UnderWay(info) is { } status)
            throw new RefusedException(
                Reasons.MigrationActive,
                $"a migration of this guest is under way ({status}); try again when the migration has ended"
            );
        if (
            info.TryGetProperty("blocked-reasons", out QmpValue reasons)
            && reasons.ValueKind == JsonValueKind.Array
            && reasons.GetArrayLength() > 0
        )
            throw new RefusedException(
                Reasons.NotMigratable,
                $"QEMU cannot save this machine: {string.Join("; ", reasons.EnumerateArray().Select(r => r.GetString()))}"
            );
    }

    private static bool CheckDevices(IQmpMonitor qmp, string path)
    {
        bool reportsFreePages = false;
        using QmpAnswer answer = qmp.Execute("qom-list", QmpJson.Object(("path", path)));
        foreach (QmpValue child in answer.Return.EnumerateArray())
        {
            string type = child.GetProperty("type").GetString();
            if (!type.StartsWith("child<", StringComparison.Ordinal))
                continue;
            type = type["child<".Length..^1];
            string name = child.GetProperty("name").GetString();
            foreach ((string prefix, string why) in Refused)
            {
                if (type.StartsWith(prefix, StringComparison.Ordinal))
                    throw new RefusedException(
                        Reasons.DeviceUnsupported,
                        $"device {path}/{name} ({type}) cannot be captured: {why}; remove it from the VM"
                    );
            }
            if (type.StartsWith("virtio-balloon", StringComparison.Ordinal))
                reportsFreePages |= ReportsFreePages(qmp, $"{path}/{name}");
        }
        return reportsFreePages;
    }

    private static bool ReportsFreePages(IQmpMonitor qmp, string path)
    {
        using QmpAnswer answer = qmp.Execute("qom-list", QmpJson.Object(("path", path)));
        bool reports = answer.Return.EnumerateArray().Any(p => p.GetProperty("name").GetString() == "free-page-reporting");
        if (!reports)
            return false;
        using QmpAnswer value = qmp.Execute("qom-get", QmpJson.Object(("path", path), ("property", "free-page-reporting")));
        return value.Return.GetBoolean();
    }
}
