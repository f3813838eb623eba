using System.Globalization;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// Huge pages that the kernel reserves for one test machine, and a hugetlbfs to allocate them from. The reservation raises and lowers the
/// kernel's number under a lock file, so that several can exist at once.
/// </summary>
public sealed class HugePageReservation : IDisposable
{
    private const string Knob = "/proc/sys/vm/nr_hugepages";
    private const int PageMiB = 2;
    private readonly string _mount;
    private readonly int _pages;

    private HugePageReservation(string mount, int pages) => (_mount, _pages) = (mount, pages);

    public static HugePageReservation Take(string mount, int memoryMiB)
    {
        var pages = (memoryMiB + PageMiB - 1) / PageMiB;
        Raise(pages);
        try
        {
            Directory.CreateDirectory(mount);
            HarnessLibc.MountHugetlbfs(mount);
            File.WriteAllText(Note(mount), pages.ToString(CultureInfo.InvariantCulture));
        }
        catch
        {
            HarnessLibc.Unmount(mount);
            Raise(-pages);
            throw;
        }

        return new HugePageReservation(mount, pages);
    }

    public void Dispose()
    {
        HarnessLibc.Unmount(_mount);
        Raise(-_pages);
        File.Delete(Note(_mount));
    }

    /// <summary>Releases the huge pages that a killed test run reserved.</summary>
    internal static void GiveBackLost(string mount)
    {
        HarnessLibc.Unmount(mount);
        if (File.Exists(Note(mount)))
            Raise(-int.Parse(File.ReadAllText(Note(mount)), CultureInfo.InvariantCulture));
    }

    private static string Note(string mount) => mount + "-pages";

    private static void Raise(int by)
    {
        using var alone = LockFile("bgsnap-test-hugepages.lock");
        var before = Read();
        Write(Math.Max(0, before + by));
        if (by <= 0 || Read() >= before + by)
            return;

        // Free memory is fragmented: drop the caches, compact memory, and try once more.
        File.WriteAllText("/proc/sys/vm/drop_caches", "3");
        File.WriteAllText("/proc/sys/vm/compact_memory", "1");
        Write(before + by);
        var after = Read();
        if (after >= before + by)
            return;
        Write(before);
        throw new InvalidOperationException(
            $"The kernel made {after - before} of {by} huge pages: too little memory is free in pieces of {PageMiB} MiB."
        );
    }

    private static int Read() => int.Parse(File.ReadAllText(Knob), CultureInfo.InvariantCulture);

    private static void Write(int pages) => File.WriteAllText(Knob, pages.ToString(CultureInfo.InvariantCulture));

    /// <summary>A lock file that only one process can hold; the kernel releases it when that process dies.</summary>
    internal static FileStream LockFile(string name)
    {
        var path = Path.Combine(Path.GetTempPath(), name);
        for (var attempt = 0; ; attempt++)
        {
            try
            {
                return new FileStream(path, FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
            }
            catch (IOException) when (attempt < 600)
            {
                Thread.Sleep(50);
            }
        }
    }
}
