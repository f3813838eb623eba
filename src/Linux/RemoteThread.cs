namespace Bgsnap.Linux;

/// <summary>
/// One stopped thread of another process in which system calls are made: stop, prepare, call, cure, resume
/// (the verbs of CRIU's compel). x86-64 only.
/// </summary>
/// <remarks>
/// The thread is held for 70 to 400 µs. It recovers by itself if we die meanwhile (<see cref="SignalFrame"/>): at every moment either its
/// registers are its own, or the next thing it does after at most one call is rt_sigreturn(2).
/// It is never single-stepped: the kernel delivers the SIGTRAP of a step to a thread whose tracer has died, and that kills it.
/// </remarks>
internal sealed unsafe class RemoteThread
{
    /// <summary>How long a thread may be held before the kernel kills this process: a guest whose QEMU is held stands still.</summary>
    internal static readonly TimeSpan DefaultLimit = TimeSpan.FromSeconds(2);

    private const int MaximumFrame = 20 * 1024;
    private const ulong AllSignals = ulong.MaxValue;

    private readonly CheckedProcess _process;
    private readonly int _tid;
    private readonly SyscallGadget _gadget;
    private UserRegisters _true;
    private ulong _signalMask;
    private ulong _frame;
    private bool _injecting;
    private bool _atSystemCall;

    private RemoteThread(CheckedProcess process, SyscallGadget gadget) => (_process, _tid, _gadget) = (process, process.Pid, gadget);

    /// <summary>
    /// Stops a process's main thread, which in a QEMU nearly always sleeps in ppoll(2), runs <paramref name="body"/> and resumes the
    /// thread, all on one OS thread.
    /// </summary>
    /// <param name="process">The process, opened before it was checked and the gadget found: another process with the same number is left
    /// alone.</param>
    /// <param name="gadget">Where to make calls, from <see cref="SyscallGadget.Find"/>.</param>
    /// <param name="body">What to do with the thread; exceptions pass through after the thread has been cured.</param>
    /// <param name="limit">How long that may take if we are stopped meanwhile; null: <see cref="DefaultLimit"/>.</param>
    /// <exception cref="LinuxException">EPERM: ptrace is denied; ESRCH: the thread is gone.</exception>
    internal static void Hold(CheckedProcess process, SyscallGadget gadget, Action<RemoteThread> body, TimeSpan? limit = null)
    {
        using DeathTimer timer = DeathTimer.Create();
        timer.DieIn(limit ?? DefaultLimit);
        RemoteThread thread = new(process, gadget);
        process.ThrowIfEnded();
        Ptrace.Seize(process.Pid);
        try
        {
            thread.Stop();
            // A thread keeps its number while we trace it.
            process.ThrowIfEnded();
            thread.Prepare();
            body(thread);
        }
        finally
        {
            thread.CureAndResume();
        }
    }

    /// <summary>Makes one system call in the thread.</summary>
    /// <returns>What the kernel returned: a result, or a negative error number.</returns>
    internal long Call(long number, ulong a = 0, ulong b = 0, ulong c = 0)
    {
        UserRegisters r = _true;
        r.Rip = _gadget.SyscallReturn;
        r.Rsp = _frame;
        r.Rax = (ulong)number;
        r.OrigRax = ulong.MaxValue; // not "in a system call": the kernel must not restart anything here
        r.Rdi = a;
        r.Rsi = b;
        r.Rdx = c;
        Ptrace.SetRegisters(_tid, r);
        if (!_injecting)
        {
            // Change the mask only now: rt_sigreturn(2), which undoes the change, is certain to run.
            _injecting = true;
            Ptrace.SetSignalMask(_tid, AllSignals);
        }
        RunToSystemCallStop(); // its entry
        RunToSystemCallStop(); // its exit
        Ptrace.GetRegisters(_tid, out UserRegisters after);
        return (long)after.Rax;
    }

    /// <summary>
    /// Puts bytes where the thread's calls can read them, until the next ones: below the frame, where the thread keeps nothing.
    /// </summary>
    /// <returns>Their address in the target.</returns>
    /// <exception cref="LinuxException">EFAULT: its stack ends there.</exception>
    internal ulong Put(ReadOnlySpan<byte> bytes)
    {
        ulong address = (_frame - (ulong)bytes.Length) & ~15UL;
        // SAFETY: the span is pinned for the call and only its length is read.
        fixed (byte* b = bytes)
            ProcessMemory.WriteHeld(_process, address, b, bytes.Length);
        return address;
    }

    private void RunToSystemCallStop()
    {
        int status;
        do
        {
            Ptrace.ContinueToSystemCall(_tid);
            status = Ptrace.Wait(_tid);
            // Signals are blocked; a stop of the whole process (SIGSTOP) may come in between, and can wait.
        } while (IsStopped(status) && status >> 16 == Ptrace.EventStop);
        _atSystemCall = IsStoppedBy(status, Ptrace.SystemCallStop);
        if (!_atSystemCall)
            throw new LinuxException($"run a call in thread {_tid}: unexpected state {status:x}", Errno.ESRCH);
    }

    private void Stop()
    {
        Ptrace.Interrupt(_tid);
        while (true)
        {
            int status = Ptrace.Wait(_tid);
            if (!IsStopped(status))
                throw new LinuxException($"stop thread {_tid}: it has ended", Errno.ESRCH);
            int signal = (status >> 8) & 0xff;
            bool eventStop = status >> 16 == Ptrace.EventStop;
            if (eventStop && signal == Ptrace.SIGTRAP)
                return;
            if (eventStop)
                throw new LinuxException($"stop thread {_tid}: its process is stopped by signal {signal}", Errno.EBUSY);
            // A signal came first: deliver it, our interrupt is still pending.
            Ptrace.Continue(_tid, signal);
        }
    }

    private void Prepare()
    {
        Ptrace.GetRegisters(_tid, out _true);
        _signalMask = Ptrace.GetSignalMask(_tid);
        byte* xstate = stackalloc byte[MaximumFrame];
        byte* image = stackalloc byte[MaximumFrame];
        int length = Ptrace.GetExtendedState(_tid, xstate, MaximumFrame);
        (ulong address, int size) = SignalFrame.Build(_true, _signalMask, xstate, length, _gadget.Restorer, image, MaximumFrame);
        // SAFETY of the target: below the red zone a stopped thread keeps nothing; a fault (no stack there) fails this write before any
        // register has changed.
        ProcessMemory.WriteHeld(_process, address, image, size);
        _frame = address;
    }

    private void CureAndResume()
    {
        try
        {
            if (_injecting)
            {
                if (_atSystemCall)
                    LeaveSystemCall();
                Ptrace.SetSignalMask(_tid, _signalMask);
                // With the true registers, orig_rax included, the kernel itself restarts the interrupted call.
                Ptrace.SetRegisters(_tid, _true);
            }
            Ptrace.Detach(_tid);
        }
        catch (LinuxException e) when (e.Errno == Errno.ESRCH)
        {
            // The thread is gone, or was never stopped; there is nothing to cure.
        }
    }

    /// <summary>
    /// Moves from a system-call stop to a stop where signals are handled, without the thread executing an instruction: the kernel restarts
    /// the originally interrupted call only when the thread leaves such a stop.
    /// </summary>
    private void LeaveSystemCall()
    {
        Ptrace.Interrupt(_tid);
        Ptrace.Continue(_tid, 0);
        if (!IsStopped(Ptrace.Wait(_tid)))
            throw new LinuxException($"restore thread {_tid}: it has ended", Errno.ESRCH);
        _atSystemCall = false;
    }

    private static bool IsStopped(int status) => (status & 0xff) == 0x7f;

    private static bool IsStoppedBy(int status, int signal) => IsStopped(status) && ((status >> 8) & 0xff) == signal;
}
