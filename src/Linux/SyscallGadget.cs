namespace Bgsnap.Linux;

/// <summary>Two addresses in a process's own code: a <c>syscall; ret</c>, and the <c>rt_sigreturn</c> of its libc.</summary>
/// <param name="SyscallReturn">Address of <c>0f 05 c3</c>.</param>
/// <param name="Restorer">Address of <c>mov $15,%eax; syscall</c> (glibc's and musl's __restore_rt).</param>
internal sealed record SyscallGadget(ulong SyscallReturn, ulong Restorer)
{
    private static ReadOnlySpan<byte> SyscallRet => [0x0f, 0x05, 0xc3];
    private static ReadOnlySpan<byte> RestoreLong => [0x48, 0xc7, 0xc0, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];
    private static ReadOnlySpan<byte> RestoreShort => [0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

    /// <summary>Finds both in the executable mappings of a process, its libc first.</summary>
    /// <exception cref="NotSupportedException">The code is not there, or the process has a user shadow stack, which does not let a thread
    /// return to where it did not come from.</exception>
    internal static SyscallGadget Find(CheckedProcess process)
    {
        if (HasShadowStack(process))
            throw new NotSupportedException($"process {process.Pid} runs with a user shadow stack");
        ulong call = 0,
            restorer = 0;
        foreach (
            MemoryMapping m in MemoryMapping
                .Read(process)
                .Where(m => m.IsExecutable && !m.Path.StartsWith('['))
                .OrderBy(m => IsLibc(m.Path) ? 0 : 1)
        )
        {
            byte[] code = new byte[(int)Math.Min(m.Length, 64 << 20)];
            int got = ProcessMemory.TryRead(process, m.Start, code);
            ReadOnlySpan<byte> text = code.AsSpan(0, Math.Max(got, 0));
            call = call != 0 ? call : Locate(m.Start, text, SyscallRet);
            restorer = restorer != 0 ? restorer : Locate(m.Start, text, RestoreLong);
            restorer = restorer != 0 ? restorer : Locate(m.Start, text, RestoreShort);
            if (call != 0 && restorer != 0)
                return new SyscallGadget(call, restorer);
        }
        throw new NotSupportedException($"process {process.Pid} has no 'syscall; ret' or no signal restorer in its code");
    }

    // libc.so.6, libc-2.36.so, libc.musl-x86_64.so.1, ld-musl-x86_64.so.1; not libcrypto's megabytes.
    private static bool IsLibc(string path) =>
        path[(path.LastIndexOf('/') + 1)..] is ['l', 'i', 'b', 'c', '.' or '-', ..] or ['l', 'd', '-', 'm', 'u', 's', 'l', ..];

    private static ulong Locate(ulong start, ReadOnlySpan<byte> text, ReadOnlySpan<byte> pattern)
    {
        int at = text.IndexOf(pattern);
        return at < 0 ? 0 : start + (ulong)at;
    }

    private static bool HasShadowStack(ProcessEntry process) =>
        File.ReadLines(process.At("status"))
            .Any(l => l.StartsWith("x86_Thread_features:", StringComparison.Ordinal) && l.Contains("shstk", StringComparison.Ordinal));
}
