using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Bgsnap.Linux;

namespace Bgsnap.NodeAgent.Tests.Linux;

/// <summary>Our structs and constants equal the kernel's: a C compiler reads them from the headers.</summary>
/// <remarks>
/// Headers may be older than the kernel (Debian 12's are 6.1): what they lack is compared with the values of the kernel's documentation,
/// which the C program contains under #ifndef, and PAGEMAP_SCAN's structs with their documented size.
/// </remarks>
public class StructLayoutTests
{
    private const string Program = """
        #define _GNU_SOURCE
        #include <stdio.h>
        #include <stddef.h>
        #include <poll.h>
        #include <fcntl.h>
        #include <signal.h>
        #include <ucontext.h>
        #include <sys/ptrace.h>
        #include <sys/syscall.h>
        #include <sys/ioctl.h>
        #include <sys/uio.h>
        #include <sys/user.h>
        #include <sys/mman.h>
        #include <linux/userfaultfd.h>
        #ifndef USERFAULTFD_IOC_NEW
        #define USERFAULTFD_IOC_NEW _IO(0xAA, 0x00)
        #endif
        #ifndef UFFD_FEATURE_WP_HUGETLBFS_SHMEM
        #define UFFD_FEATURE_WP_HUGETLBFS_SHMEM (1<<12)
        #endif
        #ifndef UFFD_FEATURE_WP_UNPOPULATED
        #define UFFD_FEATURE_WP_UNPOPULATED (1<<13)
        #endif
        #ifndef UFFD_FEATURE_WP_ASYNC
        #define UFFD_FEATURE_WP_ASYNC (1<<15)
        #endif
        #define N(name, value) printf("%s %llu\n", name, (unsigned long long)(value))
        #define F(name, type, field) N(name "." #field, offsetof(type, field))
        int main(void) {
            N("UffdioApi", sizeof(struct uffdio_api));
            N("UffdioApi.Features", offsetof(struct uffdio_api, features));
            N("UffdioApi.Ioctls", offsetof(struct uffdio_api, ioctls));
            N("UffdioRange", sizeof(struct uffdio_range));
            N("UffdioRange.Length", offsetof(struct uffdio_range, len));
            N("UffdioRegister", sizeof(struct uffdio_register));
            N("UffdioRegister.Length", offsetof(struct uffdio_register, range.len));
            N("UffdioRegister.Mode", offsetof(struct uffdio_register, mode));
            N("UffdioRegister.Ioctls", offsetof(struct uffdio_register, ioctls));
            N("UffdioWriteProtect", sizeof(struct uffdio_writeprotect));
            N("UffdioWriteProtect.Length", offsetof(struct uffdio_writeprotect, range.len));
            N("UffdioWriteProtect.Mode", offsetof(struct uffdio_writeprotect, mode));
            N("UffdioCopy", sizeof(struct uffdio_copy));
            N("UffdioCopy.Source", offsetof(struct uffdio_copy, src));
            N("UffdioCopy.Length", offsetof(struct uffdio_copy, len));
            N("UffdioCopy.Mode", offsetof(struct uffdio_copy, mode));
            N("UffdioCopy.Copied", offsetof(struct uffdio_copy, copy));
            N("UffdMessage", sizeof(struct uffd_msg));
            N("UffdMessage.Event", offsetof(struct uffd_msg, event));
            N("UffdMessage.PagefaultFlags", offsetof(struct uffd_msg, arg.pagefault.flags));
            N("UffdMessage.PagefaultAddress", offsetof(struct uffd_msg, arg.pagefault.address));
            N("UffdMessage.RemoveStart", offsetof(struct uffd_msg, arg.remove.start));
            N("UffdMessage.RemoveEnd", offsetof(struct uffd_msg, arg.remove.end));
            N("PollFd", sizeof(struct pollfd));
            N("PollFd.Events", offsetof(struct pollfd, events));
            N("PollFd.Revents", offsetof(struct pollfd, revents));
            N("IoVec", sizeof(struct iovec));
            N("IoVec.Length", offsetof(struct iovec, iov_len));
            N("UserRegisters", sizeof(struct user_regs_struct));
            N("UserRegisters.R15", offsetof(struct user_regs_struct, r15));
            N("UserRegisters.R12", offsetof(struct user_regs_struct, r12));
            N("UserRegisters.Rbp", offsetof(struct user_regs_struct, rbp));
            N("UserRegisters.Rax", offsetof(struct user_regs_struct, rax));
            N("UserRegisters.Rdx", offsetof(struct user_regs_struct, rdx));
            N("UserRegisters.Rsi", offsetof(struct user_regs_struct, rsi));
            N("UserRegisters.Rdi", offsetof(struct user_regs_struct, rdi));
            N("UserRegisters.OrigRax", offsetof(struct user_regs_struct, orig_rax));
            N("UserRegisters.Rip", offsetof(struct user_regs_struct, rip));
            N("UserRegisters.Cs", offsetof(struct user_regs_struct, cs));
            N("UserRegisters.Eflags", offsetof(struct user_regs_struct, eflags));
            N("UserRegisters.Rsp", offsetof(struct user_regs_struct, rsp));
            N("UserRegisters.Ss", offsetof(struct user_regs_struct, ss));
            N("UserRegisters.FsBase", offsetof(struct user_regs_struct, fs_base));
            N("UserRegisters.Gs", offsetof(struct user_regs_struct, gs));
            /* The frame: the address of the restorer, the ucontext (8 bytes of mask are the kernel's), the siginfo. */
            #define U(name, field) N("Frame." name, 8 + offsetof(ucontext_t, field))
            U("Flags", uc_flags); U("Link", uc_link);
            U("StackPointer", uc_stack.ss_sp); U("StackFlags", uc_stack.ss_flags); U("StackSize", uc_stack.ss_size);
            #define G(name, reg) U(name, uc_mcontext.gregs[reg])
            G("R8", REG_R8); G("R9", REG_R9); G("R10", REG_R10); G("R11", REG_R11); G("R12", REG_R12); G("R13", REG_R13);
            G("R14", REG_R14); G("R15", REG_R15); G("Rdi", REG_RDI); G("Rsi", REG_RSI); G("Rbp", REG_RBP); G("Rbx", REG_RBX);
            G("Rdx", REG_RDX); G("Rax", REG_RAX); G("Rcx", REG_RCX); G("Rsp", REG_RSP); G("Rip", REG_RIP); G("Eflags", REG_EFL);
            G("Cs", REG_CSGSFS); G("Err", REG_ERR); G("Trapno", REG_TRAPNO); G("Oldmask", REG_OLDMASK); G("Cr2", REG_CR2);
            U("Fpstate", uc_mcontext.fpregs); U("SignalMask", uc_sigmask);
            N("Frame.SigInfo", 8 + offsetof(ucontext_t, uc_sigmask) + 8);
            N("Frame", 8 + offsetof(ucontext_t, uc_sigmask) + 8 + sizeof(siginfo_t));
            N("UffdConstants.Api", UFFD_API);
            N("UffdConstants.UFFDIO_API", UFFDIO_API);
            N("UffdConstants.UFFDIO_REGISTER", UFFDIO_REGISTER);
            N("UffdConstants.UFFDIO_UNREGISTER", UFFDIO_UNREGISTER);
            N("UffdConstants.UFFDIO_WAKE", UFFDIO_WAKE);
            N("UffdConstants.UFFDIO_WRITEPROTECT", UFFDIO_WRITEPROTECT);
            N("UffdConstants.UFFDIO_COPY", UFFDIO_COPY);
            N("UffdConstants.RegisterModeMissing", UFFDIO_REGISTER_MODE_MISSING);
            N("UffdConstants.WriteProtectNumber", _UFFDIO_WRITEPROTECT);
            N("UffdConstants.USERFAULTFD_IOC_NEW", USERFAULTFD_IOC_NEW);
            N("UffdConstants.RegisterModeWp", UFFDIO_REGISTER_MODE_WP);
            N("UffdConstants.WriteProtectModeWp", UFFDIO_WRITEPROTECT_MODE_WP);
            N("UffdConstants.EventPagefault", UFFD_EVENT_PAGEFAULT);
            N("UffdConstants.EventRemove", UFFD_EVENT_REMOVE);
            N("UffdConstants.EventUnmap", UFFD_EVENT_UNMAP);
            N("UffdFeatures.PagefaultFlagWp", UFFD_FEATURE_PAGEFAULT_FLAG_WP);
            N("UffdFeatures.EventRemove", UFFD_FEATURE_EVENT_REMOVE);
            N("UffdFeatures.EventUnmap", UFFD_FEATURE_EVENT_UNMAP);
            N("UffdFeatures.WpHugetlbfsShmem", UFFD_FEATURE_WP_HUGETLBFS_SHMEM);
            N("UffdFeatures.WpUnpopulated", UFFD_FEATURE_WP_UNPOPULATED);
            N("UffdFeatures.WpAsync", UFFD_FEATURE_WP_ASYNC);
            N("Ptrace.GETREGS", PTRACE_GETREGS); N("Ptrace.SETREGS", PTRACE_SETREGS); N("Ptrace.DETACH", PTRACE_DETACH);
            N("Ptrace.CONT", PTRACE_CONT); N("Ptrace.SYSCALL", PTRACE_SYSCALL); N("Ptrace.GETREGSET", PTRACE_GETREGSET);
            N("Ptrace.SEIZE", PTRACE_SEIZE); N("Ptrace.INTERRUPT", PTRACE_INTERRUPT);
            N("Ptrace.GETSIGMASK", PTRACE_GETSIGMASK); N("Ptrace.SETSIGMASK", PTRACE_SETSIGMASK);
            N("Ptrace.TRACESYSGOOD", PTRACE_O_TRACESYSGOOD);
            N("Ptrace.SysPtrace", SYS_ptrace);
            N("PidFd.SysPidfdOpen", SYS_pidfd_open); N("PidFd.SysPidfdGetfd", SYS_pidfd_getfd);
            N("PidFd.SysPidfdSendSignal", SYS_pidfd_send_signal);
            N("Libc.O_CLOEXEC", O_CLOEXEC); N("Libc.O_NONBLOCK", O_NONBLOCK); N("Libc.F_SETPIPE_SZ", F_SETPIPE_SZ);
            N("Libc.F_GETFL", F_GETFL); N("Libc.F_SETFL", F_SETFL);
            N("Libc.SEEK_DATA", SEEK_DATA); N("Libc.SEEK_HOLE", SEEK_HOLE);
            N("Libc.MADV_HUGEPAGE", MADV_HUGEPAGE); N("Libc.MAP_ANONYMOUS", MAP_ANONYMOUS);
            N("Libc.MAP_NORESERVE", MAP_NORESERVE);
            N("Libc.POLLIN", POLLIN); N("Libc.POLLOUT", POLLOUT); N("Libc.POLLERR", POLLERR); N("Libc.POLLHUP", POLLHUP);
            return 0;
        }
        """;

    private const BindingFlags Any = BindingFlags.Static | BindingFlags.Instance | BindingFlags.Public | BindingFlags.NonPublic;
    private static readonly Assembly Agent = typeof(PollFd).Assembly;

    [SkippableFact]
    public void Structs_and_constants_are_those_of_the_headers()
    {
        var expected = AskTheCompiler();
        var wrong = expected
            .Select(line => line.Split(' '))
            .Select(words => (Name: words[0], Theirs: ulong.Parse(words[1], CultureInfo.InvariantCulture), Ours: OursOf(words[0])))
            .Where(c => c.Ours != c.Theirs)
            .Select(c => $"{c.Name} is {c.Ours}, the headers say {c.Theirs}");

        Assert.True(expected.Count > 90);
        Assert.Empty(wrong);
    }

    /// <summary>
    /// struct page_region and struct pm_scan_arg of Linux 6.7's linux/fs.h; the ioctl's number contains the latter's size.
    /// </summary>
    [Fact]
    public void The_structs_of_PAGEMAP_SCAN_have_their_documented_sizes()
    {
        Assert.Equal(24UL, OursOf("PageRegion"));
        Assert.Equal(96UL, OursOf("PmScanArgument"));
        Assert.Equal(96UL, (OursOf("Pagemap.PAGEMAP_SCAN") >> 16) & 0x3fff);
        Assert.Equal('f', (char)((OursOf("Pagemap.PAGEMAP_SCAN") >> 8) & 0xff));
    }

    /// <summary>The size of a type, the offset of a field or the value of a constant.</summary>
    private static ulong OursOf(string name)
    {
        var parts = name.Split('.');
        var type = Assert.Single(Agent.GetTypes(), t => t.Name == parts[0] && t.Namespace == "Bgsnap.Linux");
        if (parts.Length == 1)
            return (ulong)SizeOf(type);
        var field = type.GetField(parts[1], Any) ?? throw new MissingFieldException(type.Name, parts[1]);
        if (field.IsLiteral)
        {
            // Through long, as the compiler does: an int of ours may be an unsigned number in the header.
            return Convert.ToUInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture);
        }

        return (ulong)Marshal.OffsetOf(type, parts[1]);
    }

    private static int SizeOf(Type type) =>
        (int)typeof(Unsafe).GetMethod(nameof(Unsafe.SizeOf))!.MakeGenericMethod(type).Invoke(null, null)!;

    private static List<string> AskTheCompiler()
    {
        Skip.IfNot(File.Exists("/usr/bin/gcc"), "gcc is not installed");
        var folder = Directory.CreateTempSubdirectory("bgsnap-layout-");
        try
        {
            var source = Path.Combine(folder.FullName, "layout.c");
            var program = Path.Combine(folder.FullName, "layout");
            File.WriteAllText(source, Program);
            Run("/usr/bin/gcc", "-Wall", "-Werror", "-o", program, source);
            return [.. Run(program).Split('\n', StringSplitOptions.RemoveEmptyEntries)];
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static string Run(string program, params string[] arguments)
    {
        using var process = Process.Start(
            new ProcessStartInfo(program, arguments) { RedirectStandardOutput = true, RedirectStandardError = true }
        )!;
        var errors = process.StandardError.ReadToEndAsync();
        var output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        Assert.True(process.ExitCode == 0, $"{program}: {errors.Result}");
        return output;
    }
}
