using System.Diagnostics;

namespace Bgsnap.Linux.Tests.Harness;

/// <summary>
/// The kernel's samepage merging (KSM), on as long as this lives. What was there before is put back by a small shell when its standard
/// input ends, which happens however the test run dies; merged pages are parted again then.
/// </summary>
public sealed class SamepageMergingSwitch : IDisposable
{
    private const string Folder = "/sys/kernel/mm/ksm/";
    private static readonly string[] Knobs = ["run", "pages_to_scan", "sleep_millisecs"];
    private readonly Process _guard;

    private SamepageMergingSwitch(Process guard) => _guard = guard;

    public static bool Exists => File.Exists(Folder + "run");

    /// <summary>Prepares the way back; merging stays as it is until <see cref="Set"/>.</summary>
    public static SamepageMergingSwitch Take()
    {
        // Read here, not by the shell: it might come to that only when merging is on already.
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

    /// <summary>1: merge; 0: merge no more, and keep what is merged.</summary>
    public static void Set(int run) => File.WriteAllText(Folder + "run", run == 1 ? "1" : "0");

    /// <summary>Pages that are a second view of one.</summary>
    public static long Merged => long.Parse(File.ReadAllText(Folder + "pages_sharing"), System.Globalization.CultureInfo.InvariantCulture);

    public void Dispose()
    {
        _guard.StandardInput.Close();
        _guard.WaitForExit();
        _guard.Dispose();
    }
}
