using System.Globalization;
using System.Net.Sockets;
using System.Runtime.InteropServices;
using Bgsnap.Linux;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Qemu.Vm;

/// <summary>
/// Ensures that only one of our processes at a time works on a QEMU. A second one would take the first one's nodes, notes and descriptors
/// for leftovers of a dead process and remove them. QEMU's own socket accepts one client, but libvirt passes on the commands of any number.
/// </summary>
/// <remarks>
/// The claim is a name in the abstract socket space of QEMU's own network namespace, built from QEMU's process number in its own PID
/// namespace and its start time. So an agent in its pod and a command on the host use the same name, and the kernel releases it with the
/// process that holds it, however that process ends.
/// </remarks>
internal sealed partial class QemuClaim : IDisposable
{
    private const int CloneNewNet = 0x40000000,
        RetryMilliseconds = 50;

    /// <summary>How long a process of ours that was killed may take to be gone.</summary>
    internal static readonly TimeSpan Moment = TimeSpan.FromSeconds(2);

    private readonly Socket _name;

    private QemuClaim(Socket name) => _name = name;

    /// <summary>Waits for the claim.</summary>
    /// <param name="qemu">QEMU's process.</param>
    /// <param name="patience">How long to wait for another of our processes to end.</param>
    /// <param name="reason">The reason of the refusal.</param>
    /// <param name="cancel">Ends the wait.</param>
    /// <exception cref="RefusedException">Another of our processes works on it.</exception>
    internal static QemuClaim Take(CheckedProcess qemu, TimeSpan patience, string reason, CancellationToken cancel = default) =>
        TryTake(qemu, patience, cancel)
        ?? throw new RefusedException(
            reason,
            $"another bgsnap process captures, restores or frees the VM of QEMU {qemu.Pid}; wait until it ends, and try again"
        );

    /// <summary>Waits for the claim; null: another of our processes works on it.</summary>
    internal static QemuClaim? TryTake(CheckedProcess qemu, TimeSpan patience, CancellationToken cancel = default)
    {
        string name = NameOf(qemu);
        for (long end = Environment.TickCount64 + (long)patience.TotalMilliseconds; ; cancel.WaitHandle.WaitOne(RetryMilliseconds))
        {
            cancel.ThrowIfCancellationRequested();
            if (Bind(qemu, name) is { } bound)
                return new QemuClaim(bound);
            if (Environment.TickCount64 >= end)
                return null;
        }
    }

    private static string NameOf(CheckedProcess qemu)
    {
        try
        {
            string pids = File.ReadLines(qemu.At("status")).First(l => l.StartsWith("NSpid:", StringComparison.Ordinal));
            string stat = File.ReadAllText(qemu.At("stat"));
            // The 22nd field, counted from the end of the name, which may hold any character.
            string started = stat[(stat.LastIndexOf(')') + 2)..].Split(' ')[19];
            return string.Create(CultureInfo.InvariantCulture, $"\0bgsnap-{pids.Split('\t', ' ')[^1]}-{started}");
        }
        catch (Exception e) when (e is IOException or InvalidOperationException or IndexOutOfRangeException)
        {
            throw new LinuxException($"read what process {qemu.Pid} is", Errno.ESRCH);
        }
    }

    /// <summary>
    /// Binds the name on a thread of its own, because that thread may change its network namespace; null: the name is taken.
    /// </summary>
    private static Socket? Bind(CheckedProcess qemu, string name)
    {
        Socket? bound = null;
        Exception? failed = null;
        AgentThread
            .Start(
                "claim",
                () =>
                {
                    EnterNetworkOf(qemu);
                    Socket socket = new(AddressFamily.Unix, SocketType.Stream, ProtocolType.Unspecified);
                    try
                    {
                        socket.Bind(new UnixDomainSocketEndPoint(name));
                        bound = socket;
                    }
                    catch (SocketException e) when (e.SocketErrorCode == SocketError.AddressAlreadyInUse)
                    {
                        socket.Dispose();
                    }
                },
                failed: e => failed = e
            )
            .Join();
        return failed is null ? bound : throw new LinuxException($"claim QEMU {qemu.Pid}: {failed.Message}", Errno.EIO);
    }

    private static void EnterNetworkOf(CheckedProcess qemu)
    {
        const string network = "ns/net";
        if (new FileInfo(qemu.At(network)).LinkTarget == new FileInfo($"/proc/thread-self/{network}").LinkTarget)
            return;
        try
        {
            using SafeFileHandle there = FileSyscalls.OpenAt(null, qemu.At(network), FileSyscalls.O_RDONLY);
            _ = SetNamespace(there, CloneNewNet);
        }
        catch (LinuxException e) when (e.Errno is Errno.EACCES or Errno.EPERM)
        {
            // A process without rights over QEMU's claims in its own namespace, among those that run beside it.
        }
    }

    [LibraryImport("libc", EntryPoint = "setns", SetLastError = true)]
    private static partial int SetNamespace(SafeHandle descriptor, int kind);

    /// <inheritdoc/>
    public void Dispose() => _name.Dispose();
}
