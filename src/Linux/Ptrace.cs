using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>The few requests of ptrace(2) that one stop of one thread needs. All calls of one stop must come from one OS thread.</summary>
internal static unsafe partial class Ptrace
{
    private const long SysPtrace = 101;
    private const int CONT = 7,
        GETREGS = 12,
        SETREGS = 13,
        DETACH = 17,
        SYSCALL = 24;
    private const int GETREGSET = 0x4204,
        SEIZE = 0x4206,
        INTERRUPT = 0x4207,
        GETSIGMASK = 0x420a,
        SETSIGMASK = 0x420b;
    private const int NtX86Xstate = 0x202;
    private const int WALL = 0x40000000;

    internal const int SIGTRAP = 5;
    internal const int EventStop = 128;

    /// <summary>
    /// What a stop at a system call's entry or exit reports instead of SIGTRAP, so that it cannot be taken for a signal to deliver.
    /// </summary>
    internal const int SystemCallStop = SIGTRAP | 0x80;
    private const int TRACESYSGOOD = 1;

    [LibraryImport("libc", EntryPoint = "waitpid", SetLastError = true)]
    private static partial int WaitPid(int pid, int* status, int options);

    internal static void Seize(int tid) => Do(SEIZE, tid, null, (void*)TRACESYSGOOD, "PTRACE_SEIZE");

    internal static void Interrupt(int tid) => Do(INTERRUPT, tid, null, null, "PTRACE_INTERRUPT");

    internal static void GetRegisters(int tid, out UserRegisters registers)
    {
        fixed (UserRegisters* r = &registers)
            Do(GETREGS, tid, null, r, "PTRACE_GETREGS");
    }

    internal static void SetRegisters(int tid, in UserRegisters registers)
    {
        fixed (UserRegisters* r = &registers)
            Do(SETREGS, tid, null, r, "PTRACE_SETREGS");
    }

    internal static ulong GetSignalMask(int tid)
    {
        ulong mask;
        Do(GETSIGMASK, tid, (void*)sizeof(ulong), &mask, "PTRACE_GETSIGMASK");
        return mask;
    }

    internal static void SetSignalMask(int tid, ulong mask) => Do(SETSIGMASK, tid, (void*)sizeof(ulong), &mask, "PTRACE_SETSIGMASK");

    /// <summary>The extended state (x87, SSE, AVX…) in the standard form of XSAVE.</summary>
    /// <returns>The number of bytes of <paramref name="buffer"/> that were filled.</returns>
    internal static int GetExtendedState(int tid, byte* buffer, int capacity)
    {
        nint* iovec = stackalloc nint[2];
        iovec[0] = (nint)buffer;
        iovec[1] = capacity;
        Do(GETREGSET, tid, (void*)NtX86Xstate, iovec, "PTRACE_GETREGSET");
        return (int)iovec[1];
    }

    /// <summary>Runs to the entry of the next system call, or from there to its exit.</summary>
    internal static void ContinueToSystemCall(int tid) => Do(SYSCALL, tid, null, null, "PTRACE_SYSCALL");

    internal static void Continue(int tid, int signal) => Do(CONT, tid, null, (void*)signal, "PTRACE_CONT");

    internal static void Detach(int tid) => Do(DETACH, tid, null, null, "PTRACE_DETACH");

    /// <summary>Waits for the thread's next stop.</summary>
    /// <returns>The status of waitpid(2).</returns>
    internal static int Wait(int tid)
    {
        int status;
        while (WaitPid(tid, &status, WALL) < 0)
        {
            if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                throw LinuxException.Last($"wait for thread {tid}");
        }
        TestHooks.After("ptrace");
        return status;
    }

    private static void Do(int request, int tid, void* address, void* data, string name)
    {
        if (Libc.Syscall(SysPtrace, request, tid, (long)address, (long)data, 0, 0) < 0)
            throw LinuxException.Last($"{name} of thread {tid}");
        TestHooks.After("ptrace");
    }
}

/// <summary>struct user_regs_struct, x86-64 (arch/x86/include/asm/user_64.h).</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct UserRegisters
{
    internal ulong R15,
        R14,
        R13,
        R12,
        Rbp,
        Rbx,
        R11,
        R10,
        R9,
        R8,
        Rax,
        Rcx,
        Rdx,
        Rsi,
        Rdi,
        OrigRax;
    internal ulong Rip,
        Cs,
        Eflags,
        Rsp,
        Ss,
        FsBase,
        GsBase,
        Ds,
        Es,
        Fs,
        Gs;
}
