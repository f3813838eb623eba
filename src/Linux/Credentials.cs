using System.Globalization;
using System.Runtime.ExceptionServices;

namespace Bgsnap.Linux;

/// <summary>
/// Runs a step with another process's file permissions: the agent does not open for a process what that process could not open, whatever
/// the agent's own privileges.
/// </summary>
/// <param name="User">Its fsuid.</param>
/// <param name="Group">Its fsgid.</param>
/// <param name="Groups">Its other groups.</param>
internal sealed unsafe record Credentials(uint User, uint Group, IReadOnlyList<uint> Groups)
{
    private const long SysSetgroups = 116,
        SysSetfsuid = 122,
        SysSetfsgid = 123;

    /// <summary>The credentials of a process.</summary>
    /// <exception cref="IOException">The process has ended.</exception>
    internal static Credentials Of(ProcessEntry process)
    {
        string[] status = File.ReadAllLines(process.At("status"));
        // Real, effective, saved and file system.
        return new Credentials(Numbers("Uid:")[3], Numbers("Gid:")[3], Numbers("Groups:"));

        uint[] Numbers(string field) =>
            [
                .. status
                    .First(l => l.StartsWith(field, StringComparison.Ordinal))[field.Length..]
                    .Split([' ', '\t'], StringSplitOptions.RemoveEmptyEntries)
                    .Select(n => uint.Parse(n, CultureInfo.InvariantCulture)),
            ];
    }

    /// <summary>
    /// Runs a step on a separate thread that has these permissions, and no capability to override them unless the user is root.
    /// </summary>
    internal T Run<T>(Func<T> step)
    {
        T? result = default;
        ExceptionDispatchInfo? failure = null;
        AgentThread
            .Start(
                "as QEMU",
                () =>
                {
                    Take();
                    result = step();
                },
                e => failure = ExceptionDispatchInfo.Capture(e),
                stackBytes: 0
            )
            .Join();
        failure?.Throw();
        return result!;
    }

    /// <summary>The raw system calls change only the calling thread; libc's functions would change all threads of the process.</summary>
    private void Take()
    {
        uint[] groups = [.. Groups];
        // SAFETY: the array is pinned for the call, which reads as many numbers as its argument says.
        fixed (uint* list = groups)
        {
            if (Libc.Syscall(SysSetgroups, groups.Length, (long)list, 0, 0, 0, 0) != 0)
                throw LinuxException.Last("setgroups");
        }
        // These calls return the previous value and report no failure: a second call returns the current value.
        _ = Libc.Syscall(SysSetfsgid, Group, 0, 0, 0, 0, 0);
        _ = Libc.Syscall(SysSetfsuid, User, 0, 0, 0, 0, 0);
        if (Libc.Syscall(SysSetfsgid, -1, 0, 0, 0, 0, 0) != Group || Libc.Syscall(SysSetfsuid, -1, 0, 0, 0, 0, 0) != User)
            throw new LinuxException($"take the file rights of user {User}", Errno.EPERM);
    }
}
