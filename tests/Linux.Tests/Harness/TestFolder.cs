using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// A machine's temporary directory. Its name contains our pid, so that the next test run can clean up after a killed one.
/// </summary>
internal static class TestFolder
{
    private const string Prefix = "bgsnap-test-";
    private static readonly Lazy<bool> SweepResult = new(Sweep);

    public static string Create()
    {
        _ = SweepResult.Value;
        var folder = Directory.CreateTempSubdirectory($"{Prefix}{Environment.ProcessId}-").FullName;
        // QEMU may run as another user, and creates its sockets in here.
        File.SetUnixFileMode(folder, (UnixFileMode)0b111_111_111);
        return folder;
    }

    /// <summary>Cleans up after dead processes; only one process does so at a time.</summary>
    public static bool Sweep()
    {
        using var alone = HugePageReservation.LockFile("bgsnap-test-sweep.lock");
        foreach (var folder in Directory.EnumerateDirectories(Path.GetTempPath(), Prefix + "*"))
        {
            var owner = Path.GetFileName(folder)[Prefix.Length..].Split('-')[0];
            if (!int.TryParse(owner, NumberStyles.None, CultureInfo.InvariantCulture, out var pid) || Directory.Exists($"/proc/{pid}"))
                continue;
            HarnessLibc.Unmount(LoopVolume.MountPoint(folder));
            TestDisks.DetachLost(folder);
            HugePageReservation.GiveBackLost(QemuCommandLine.HugetlbfsMount(folder));
            Directory.Delete(folder, recursive: true);
        }

        return true;
    }
}
