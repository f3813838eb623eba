using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Bgsnap.Linux.Tests.Harness;

namespace Bgsnap.Storm;

/// <summary>
/// A process that outlives the storm: when its standard input ends, and the storm is dead, it releases what the machines held (their QEMUs
/// end by themselves): mounts, loop devices, huge pages, folders, control groups, and the kernel's samepage merging.
/// </summary>
internal static class Guard
{
    /// <summary>The only argument, before the storm's pid.</summary>
    public const string Argument = "--guard";

    /// <summary>Starts a guard. It gets no message: it only waits for the end of the pipe.</summary>
    public static void Start()
    {
        ProcessStartInfo start = new(Environment.ProcessPath!) { RedirectStandardInput = true };
        if (Path.GetFileNameWithoutExtension(Environment.ProcessPath) == "dotnet")
            start.ArgumentList.Add(typeof(Guard).Assembly.Location);
        start.ArgumentList.Add(Argument);
        start.ArgumentList.Add(Environment.ProcessId.ToString(CultureInfo.InvariantCulture));
        _ = Process.Start(start) ?? throw new InvalidOperationException("The storm's guard did not start.");
    }

    /// <summary>Runs as the guard.</summary>
    public static int Be(int storm)
    {
        // Ctrl-C in a terminal signals all of its processes; the guard has work left then.
        using var interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, c => c.Cancel = true);
        using var terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, c => c.Cancel = true);
        using var hangUp = PosixSignalRegistration.Create(PosixSignal.SIGHUP, c => c.Cancel = true);
        while (Console.In.Read() >= 0) { }

        while (Directory.Exists($"/proc/{storm}"))
            Thread.Sleep(50);
        KsmSwitch.Restore(storm);
        Freezer.RemoveGroupsOf(storm);
        // The guards of the QEMUs kill them at the same moment; what the QEMUs held is free once they are gone.
        Thread.Sleep(2000);
        TestFolder.Sweep();
        Volume.RemoveGroupsOf(storm);
        return 0;
    }
}
