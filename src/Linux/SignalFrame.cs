using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>
/// A signal frame (struct rt_sigframe, arch/x86/include/asm/sigframe.h) that holds a thread's true context.
/// </summary>
/// <remarks>
/// It is written below the red zone of the stopped thread's stack before anything else happens to it:
/// <code>
///   rsp of the thread ─┐
///   ...  [magic2] [ xsave area, 64-aligned ] [ucontext][&amp;restorer]      128-byte red zone | stack in use
///                                                       └ rsp while we inject
/// </code>
/// Every injected call runs at a <c>syscall; ret</c> of the target's own libc, with rsp at the slot that holds the address of its <c>mov
/// $15,%eax; syscall</c>. Whichever process dies, and whenever: the thread executes at most one harmless call, returns into rt_sigreturn(2)
/// and is exactly where it was, with its signal mask, its extended state and the interrupted call restarted.
/// </remarks>
internal static unsafe class SignalFrame
{
    private const int RedZone = 128;
    private const uint Magic1 = 0x46505853,
        Magic2 = 0x46505845;
    private const int SoftwareBytes = 464,
        XstateHeader = 512,
        LegacySize = 512 + 64;
    private const ulong UcFpXstate = 1,
        UcSigcontextSs = 2,
        UcStrictRestoreSs = 4;

    // do_sigaltstack() refuses this mode and rt_sigreturn(2) ignores the refusal, so the thread keeps its alternate stack, which cannot be
    // read from outside.
    private const int LeaveAlternateStack = 7;

    internal const long ErestartSys = -512,
        ErestartNoIntr = -513,
        ErestartNoHand = -514,
        ErestartRestartBlock = -516;

    /// <summary>Builds the frame for a thread stopped with <paramref name="registers"/>.</summary>
    /// <param name="registers">The thread's registers as PTRACE_GETREGS gave them.</param>
    /// <param name="signalMask">The signals it blocks.</param>
    /// <param name="xstate">The thread's XSAVE area as PTRACE_GETREGSET gave it.</param>
    /// <param name="xstateLength">Its length in bytes.</param>
    /// <param name="restorer">Address of an rt_sigreturn(2) call in the target.</param>
    /// <param name="image">Where the bytes are built.</param>
    /// <param name="capacity">Room there, in bytes.</param>
    /// <returns>The address in the target for the bytes (also the rsp to inject with), and their number.</returns>
    internal static (ulong Address, int Length) Build(
        in UserRegisters registers,
        ulong signalMask,
        byte* xstate,
        int xstateLength,
        ulong restorer,
        byte* image,
        int capacity
    )
    {
        int used = UsedXstate(xstate, xstateLength);
        ulong top = registers.Rsp - RedZone;
        ulong fpstate = (top - (ulong)(used + sizeof(uint))) & ~63UL;
        ulong frame = ((fpstate - (ulong)sizeof(Frame)) & ~15UL) - 8;
        int length = (int)(fpstate - frame) + used + sizeof(uint);
        if (length > capacity)
            throw new LinuxException("build the signal frame", Errno.EINVAL);

        // SAFETY: image has room for length bytes; every offset below is under length.
        new Span<byte>(image, length).Clear();
        Frame* f = (Frame*)image;
        f->Restorer = restorer;
        f->Flags = UcFpXstate | UcSigcontextSs | UcStrictRestoreSs;
        f->StackFlags = LeaveAlternateStack;
        FillContext(ref *f, registers, fpstate);
        f->SignalMask = signalMask;

        byte* fp = image + (fpstate - frame);
        Buffer.MemoryCopy(xstate, fp, length - (fp - image), used);
        // struct _fpx_sw_bytes, in the bytes that XSAVE leaves to software.
        ulong features = Unsafe.ReadUnaligned<ulong>(xstate + XstateHeader);
        new Span<byte>(fp + SoftwareBytes, 48).Clear();
        Unsafe.WriteUnaligned(fp + SoftwareBytes, Magic1);
        Unsafe.WriteUnaligned(fp + SoftwareBytes + 4, (uint)(used + sizeof(uint)));
        Unsafe.WriteUnaligned(fp + SoftwareBytes + 8, features | 3);
        Unsafe.WriteUnaligned(fp + SoftwareBytes + 16, (uint)used);
        Unsafe.WriteUnaligned(fp + used, Magic2);
        return (frame, length);
    }

    private static void FillContext(ref Frame f, in UserRegisters r, ulong fpstate)
    {
        f.R8 = r.R8;
        f.R9 = r.R9;
        f.R10 = r.R10;
        f.R11 = r.R11;
        f.R12 = r.R12;
        f.R13 = r.R13;
        f.R14 = r.R14;
        f.R15 = r.R15;
        f.Rdi = r.Rdi;
        f.Rsi = r.Rsi;
        f.Rbp = r.Rbp;
        f.Rbx = r.Rbx;
        f.Rdx = r.Rdx;
        f.Rcx = r.Rcx;
        f.Rsp = r.Rsp;
        f.Eflags = r.Eflags;
        f.Cs = (ushort)r.Cs;
        f.Ss = (ushort)r.Ss;
        f.Fpstate = fpstate;
        (f.Rax, f.Rip) = AfterRestart(r);
    }

    /// <summary>
    /// The values of rax and rip after the kernel finishes the interrupted call, as arch_do_signal_or_restart() would set them.
    /// </summary>
    private static (ulong Rax, ulong Rip) AfterRestart(in UserRegisters r)
    {
        if ((long)r.OrigRax < 0)
            return (r.Rax, r.Rip);
        return (long)r.Rax switch
        {
            ErestartSys or ErestartNoIntr or ErestartNoHand => (r.OrigRax, r.Rip - 2),
            // The restart block does not survive rt_sigreturn(2); a signal would have returned EINTR.
            ErestartRestartBlock => (unchecked((ulong)-Errno.EINTR), r.Rip),
            _ => (r.Rax, r.Rip),
        };
    }

    /// <summary>Bytes of the XSAVE area with state in use, so that unused AMX tiles are not copied.</summary>
    private static int UsedXstate(byte* xstate, int length)
    {
        if (length < LegacySize)
            throw new LinuxException("read the extended state: this CPU has no XSAVE", Errno.ENOSYS);
        ulong features = Unsafe.ReadUnaligned<ulong>(xstate + XstateHeader);
        int end = LegacySize;
        for (int i = 2; i < 63; i++)
        {
            if ((features & (1UL << i)) == 0)
                continue;
            (int size, int offset, _, _) = System.Runtime.Intrinsics.X86.X86Base.CpuId(0xD, i);
            end = Math.Max(end, offset + size);
        }
        return end <= length ? end : throw new LinuxException("read the extended state: it is cut short", Errno.EINVAL);
    }

    [StructLayout(LayoutKind.Sequential, Pack = 1)]
    private struct Frame
    {
        internal ulong Restorer;
        internal ulong Flags,
            Link;
        internal ulong StackPointer;
        internal int StackFlags,
            StackPad;
        internal ulong StackSize;
        internal ulong R8,
            R9,
            R10,
            R11,
            R12,
            R13,
            R14,
            R15,
            Rdi,
            Rsi,
            Rbp,
            Rbx,
            Rdx,
            Rax,
            Rcx,
            Rsp,
            Rip,
            Eflags;
        internal ushort Cs,
            Gs,
            Fs,
            Ss;
        internal ulong Err,
            Trapno,
            Oldmask,
            Cr2,
            Fpstate;
        internal fixed ulong Reserved[8];
        internal ulong SignalMask;
        internal fixed byte SigInfo[128];
    }
}
