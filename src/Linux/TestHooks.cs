using System.Globalization;

namespace Bgsnap.Linux;

/// <summary>
/// Points at which a test makes the agent die or stop. Set by <c>BGSNAP_TEST_HOOK=action:point:count</c>, for example <c>kill:ptrace:7</c>
/// (SIGKILL to ourselves after the seventh ptrace call); without the variable each point costs one comparison. <c>kill:point:count:pid</c>
/// kills another process, and <c>wait:point:count:file</c> creates <c>file</c> and waits until it is gone. <c>set-back:point</c> lets the
/// agent's wall clock be an hour ahead until the point, as if the host's clock was set back there. A count of 0 means every time. A
/// second hook may follow after a plus sign, for a point that changes behaviour: <c>wait:discard-announced:1:file+skip:proof</c>.
/// </summary>
/// <remarks>A user who can set a variable for a process can end it anyway, so this gives nobody a new power.</remarks>
internal static class TestHooks
{
    private const int SIGKILL = 9,
        SIGSTOP = 19;
    private const int EveryTime = 0;
    private const long Hour = 3_600_000_000;
    private static readonly string? Point;
    private static readonly string? Action;
    private static readonly int Count;
    private static readonly string? Whom;
    private static readonly string? Second;
    private static int _seen;
    private static long _clockAhead;

    static TestHooks()
    {
        // The parent of a capture watches and cleans up; tests break only the process that captures.
        if (!Environment.GetCommandLineArgs().Contains("--worker"))
            return;
        string[]? hooks = Environment.GetEnvironmentVariable("BGSNAP_TEST_HOOK")?.Split('+');
        Second = hooks is { Length: 2 } ? hooks[1] : null;
        string[]? parts = hooks?[0].Split(':');
        if (parts is not { Length: >= 2 })
            return;
        (Action, Point) = (parts[0], parts[1]);
        Count = parts.Length > 2 ? int.Parse(parts[2], CultureInfo.InvariantCulture) : 1;
        Whom = parts.Length > 3 ? parts[3] : null;
        _clockAhead = Action == "set-back" ? Hour : 0;
    }

    /// <summary>By how much the agent's wall clock is ahead of QEMU's, microseconds.</summary>
    internal static long ClockAhead => Volatile.Read(ref _clockAhead);

    /// <summary>
    /// True when the hook asks for <paramref name="action"/> at <paramref name="point"/> (for points that change behaviour).
    /// </summary>
    internal static bool Is(string action, string point) =>
        (Action == action && Point == point) || (Second is not null && Second == $"{action}:{point}");

    /// <summary>Reports that a point has been passed.</summary>
    internal static void After(string point)
    {
        if (Point is null || Point != point || (Interlocked.Increment(ref _seen) != Count && Count != EveryTime))
            return;
        if (Action == "kill")
            _ = Libc.Kill(Whom is null ? Environment.ProcessId : int.Parse(Whom, CultureInfo.InvariantCulture), SIGKILL);
        else if (Action == "stop")
            _ = Libc.Kill(Environment.ProcessId, SIGSTOP);
        else if (Action == "set-back")
            Volatile.Write(ref _clockAhead, 0);
        else if (Action == "wait")
            WaitForTest(Whom!);
    }

    private static void WaitForTest(string file)
    {
        File.WriteAllText(file, "");
        while (File.Exists(file))
            Thread.Sleep(1);
    }
}
