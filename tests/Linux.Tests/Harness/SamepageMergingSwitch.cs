using System.Diagnostics;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// Controls the kernel's samepage merging (KSM) for the lifetime of this object. A small shell restores the former settings when its
/// standard input ends, which happens however the test run dies; the kernel then unmerges the merged pages.
/// </summary>
public sealed class SamepageMergingSwitch : IDisposable
{
    private const string Folder = "/sys/kernel/mm/ksm/";
    private static readonly string[] Knobs = ["run", "pages_to_scan", "sleep_millisecs"];
    private readonly Process _guard;

    private SamepageMergingSwitch(Process guard) => _guard = guard;

    public static bool Exists => File.Exists(Folder + "run");

    /// <summary>Prepares the restoration; merging stays as it is until <see cref="Set"/>.</summary>
    public static SamepageMergingSwitch Take()
    {
        // Read here, not by the shell, which might read only after merging is on.
        string[] before = [.. Knobs.Select(k => File.ReadAllText(Folder + k).Trim())];
        ProcessStartInfo start = new("/bin/sh") { RedirectStandardInput = true };
        start.ArgumentList.Add("-c");
        start.ArgumentList.Add(
            $"read -r _; cd {Folder} && echo 2 >run; " + string.Join("; ", Knobs.Zip(before, (knob, value) => $"echo {value} >{knob}"))
        );
        SamepageMergingSwitch made = new(Process.Start(start)!);
        File.WriteAllText(Folder + "pages_to_scan", "20000");
        File.WriteAllText(Folder + "sleep_millisecs", "5");
        return made;
    }

    /// <summary>1: merge; 0: stop merging, and keep merged pages.</summary>
    public static void Set(int run) => File.WriteAllText(Folder + "run", run == 1 ? "1" : "0");

    /// <summary>The number of pages that share another page (pages_sharing).</summary>
    public static long Merged => long.Parse(File.ReadAllText(Folder + "pages_sharing"), System.Globalization.CultureInfo.InvariantCulture);

    public void Dispose()
    {
        _guard.StandardInput.Close();
        _guard.WaitForExit();
        _guard.Dispose();
    }
}
