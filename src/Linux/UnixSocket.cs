using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Win32.SafeHandles;

namespace Bgsnap.Linux;

/// <summary>A connected unix stream socket that can carry descriptors: unix(7).</summary>
internal sealed unsafe partial class UnixSocket : IDisposable
{
    private const int AF_UNIX = 1,
        SOCK_STREAM = 1,
        SOCK_CLOEXEC = 0x80000,
        SOL_SOCKET = 1,
        SO_PEERCRED = 17,
        SO_ACCEPTCONN = 30,
        SO_SNDTIMEO = 21,
        SCM_RIGHTS = 1,
        SHUT_RDWR = 2;
    private const int MSG_NOSIGNAL = 0x4000,
        MSG_DONTWAIT = 0x40;
    private const int PathCapacity = 108;

    private readonly SafeFileHandle _handle;

    private UnixSocket(SafeFileHandle handle) => _handle = handle;

    [StructLayout(LayoutKind.Sequential)]
    private struct MessageHeader
    {
        internal void* Name;
        internal uint NameLength;
        internal nint* Iov;
        internal nuint IovLength;
        internal void* Control;
        internal nuint ControlLength;
        internal int Flags;
    }

    [LibraryImport("libc", EntryPoint = "socket", SetLastError = true)]
    private static partial int Socket(int domain, int type, int protocol);

    [LibraryImport("libc", EntryPoint = "connect", SetLastError = true)]
    private static partial int Connect(int fd, void* address, uint length);

    [LibraryImport("libc", EntryPoint = "bind", SetLastError = true)]
    private static partial int Bind(int fd, void* address, uint length);

    [LibraryImport("libc", EntryPoint = "listen", SetLastError = true)]
    private static partial int ListenOn(int fd, int backlog);

    [LibraryImport("libc", EntryPoint = "shutdown", SetLastError = true)]
    private static partial int ShutDown(int fd, int how);

    [LibraryImport("libc", EntryPoint = "sendmsg", SetLastError = true)]
    private static partial nint SendMsg(int fd, MessageHeader* message, int flags);

    [LibraryImport("libc", EntryPoint = "recv", SetLastError = true)]
    private static partial nint Recv(int fd, void* buffer, nuint length, int flags);

    [LibraryImport("libc", EntryPoint = "getsockopt", SetLastError = true)]
    private static partial int GetSockOpt(int fd, int level, int name, void* value, uint* length);

    [LibraryImport("libc", EntryPoint = "setsockopt", SetLastError = true)]
    private static partial int SetSockOpt(int fd, int level, int name, void* value, uint length);

    [LibraryImport("libc", EntryPoint = "getsockname", SetLastError = true)]
    private static partial int GetSockName(SafeHandle socket, void* address, uint* length);

    internal int FileDescriptor => (int)_handle.DangerousGetHandle();

    /// <summary>
    /// The path that a listening unix socket was bound to, even if the path no longer exists; null if it is not such a socket or does not
    /// listen.
    /// </summary>
    internal static string? ListensAt(SafeFileHandle socket)
    {
        int listens;
        uint length = sizeof(int);
        byte* address = stackalloc byte[2 + PathCapacity];
        // SAFETY: an int and a struct sockaddr_un on our stack, with their lengths; the handle is open for the calls.
        if (GetSockOpt((int)socket.DangerousGetHandle(), SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0 || listens == 0)
            return null;
        length = 2 + PathCapacity;
        if (GetSockName(socket, address, &length) != 0 || length <= 2 || address[0] != AF_UNIX)
            return null;
        ReadOnlySpan<byte> name = new(address + 2, (int)Math.Min(length, 2 + PathCapacity) - 2);
        return Encoding.UTF8.GetString(name[..(name.IndexOf((byte)0) is var end and >= 0 ? end : name.Length)]);
    }

    /// <summary>A socket that is not connected yet.</summary>
    internal static UnixSocket Create()
    {
        int fd = Socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        return fd >= 0 ? new UnixSocket(new SafeFileHandle(fd, true)) : throw LinuxException.Last("socket");
    }

    /// <summary>Connects to a listening socket by its path.</summary>
    /// <param name="path">Its path.</param>
    /// <param name="timeout">How long connecting, and later each send, may block; zero: for ever.</param>
    /// <exception cref="LinuxException">ENOENT, ECONNREFUSED, EACCES: no process listens there, or we may not connect; EAGAIN:
    /// timeout.</exception>
    internal static UnixSocket ConnectTo(string path, TimeSpan timeout = default)
    {
        UnixSocket socket = Create();
        try
        {
            if (timeout > TimeSpan.Zero)
                socket.LimitSending(timeout);
            socket.Connect(path);
            return socket;
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Creates a socket that others can connect to, at a path that is free.</summary>
    /// <exception cref="LinuxException">EADDRINUSE: the name is taken.</exception>
    internal static UnixSocket Listen(string path, int backlog)
    {
        UnixSocket socket = Create();
        try
        {
            WithAddress(path, "bind", socket.FileDescriptor, static (fd, address, length) => Bind(fd, (void*)address, length));
            return ListenOn(socket.FileDescriptor, backlog) == 0 ? socket : throw LinuxException.Last($"listen at {path}");
        }
        catch
        {
            socket.Dispose();
            throw;
        }
    }

    /// <summary>Connects this socket to a listening one.</summary>
    internal void Connect(string path) =>
        WithAddress(path, "connect to", FileDescriptor, static (fd, address, length) => Connect(fd, (void*)address, length));

    /// <summary>Shuts the connection down for every holder of this socket, duplicates included.</summary>
    internal void ShutDown() => _ = ShutDown(FileDescriptor, SHUT_RDWR);

    /// <summary>The same for a descriptor that may be any kind of socket.</summary>
    internal static void ShutDown(SafeFileHandle socket) => _ = ShutDown((int)socket.DangerousGetHandle(), SHUT_RDWR);

    /// <summary>Calls with a path's address; paths longer than sun_path go through /proc/self/fd.</summary>
    private static void WithAddress(string path, string what, int fd, Func<int, nint, uint, int> call)
    {
        byte[] name = Encoding.UTF8.GetBytes(path);
        int directory = -1;
        try
        {
            if (name.Length >= PathCapacity)
            {
                string full = Path.GetFullPath(path);
                directory = Libc.Open(Path.GetDirectoryName(full)!, Libc.O_RDONLY | Libc.O_CLOEXEC, 0);
                if (directory < 0)
                    throw LinuxException.Last($"open the directory of {path}");
                name = Encoding.UTF8.GetBytes($"/proc/self/fd/{directory}/{Path.GetFileName(full)}");
                if (name.Length >= PathCapacity)
                    throw new LinuxException($"{what} {path}: the name is too long", Errno.EINVAL);
            }
            byte* address = stackalloc byte[2 + PathCapacity];
            new Span<byte>(address, 2 + PathCapacity).Clear();
            address[0] = AF_UNIX;
            name.CopyTo(new Span<byte>(address + 2, PathCapacity));
            if (call(fd, (nint)address, 2 + PathCapacity) != 0)
                throw LinuxException.Last($"{what} {path}");
        }
        finally
        {
            if (directory >= 0)
                _ = Libc.Close(directory);
        }
    }

    // If a listener's backlog is full, connect(2) blocks, with the same time limit as send(2): unix(7).
    private void LimitSending(TimeSpan timeout)
    {
        long* time = stackalloc long[2]
        {
            (long)timeout.TotalSeconds,
            timeout.Ticks % TimeSpan.TicksPerSecond / TimeSpan.TicksPerMicrosecond,
        };
        // SAFETY: struct timeval of x86-64, on our stack.
        if (SetSockOpt(FileDescriptor, SOL_SOCKET, SO_SNDTIMEO, time, 2 * sizeof(long)) != 0)
            throw LinuxException.Last("SO_SNDTIMEO");
    }

    /// <summary>The process that called listen(2) on the other end, as the kernel knows it.</summary>
    internal int PeerPid() => Peer(0);

    /// <summary>The user that this process runs as.</summary>
    internal int PeerUid() => Peer(1);

    private int Peer(int field)
    {
        int* credentials = stackalloc int[3];
        uint length = 3 * sizeof(int);
        if (GetSockOpt(FileDescriptor, SOL_SOCKET, SO_PEERCRED, credentials, &length) != 0)
            throw LinuxException.Last("SO_PEERCRED");
        return credentials[field];
    }

    /// <summary>Sends all bytes; a descriptor, if given, travels with the first of them.</summary>
    internal void Send(ReadOnlySpan<byte> data, int descriptor = -1)
    {
        fixed (byte* bytes = data)
        {
            nint* iov = stackalloc nint[2];
            // struct cmsghdr: length 8, level 4, type 4, then the descriptor, aligned to 8.
            ulong* control = stackalloc ulong[3];
            int done = 0;
            while (done < data.Length)
            {
                iov[0] = (nint)(bytes + done);
                iov[1] = data.Length - done;
                MessageHeader message = new() { Iov = iov, IovLength = 1 };
                if (descriptor >= 0 && done == 0)
                {
                    control[0] = 20;
                    ((int*)control)[2] = SOL_SOCKET;
                    ((int*)control)[3] = SCM_RIGHTS;
                    ((int*)control)[4] = descriptor;
                    message.Control = control;
                    message.ControlLength = 24;
                }
                nint put = SendMsg(FileDescriptor, &message, MSG_NOSIGNAL);
                if (put >= 0)
                    done += (int)put;
                else if (Marshal.GetLastPInvokeError() != Errno.EINTR)
                    throw LinuxException.Last("send");
            }
        }
    }

    /// <summary>Receives the available bytes without waiting.</summary>
    /// <returns>Bytes received; 0 if the other end has closed; -1 if nothing has arrived yet.</returns>
    internal int TryReceive(Span<byte> buffer)
    {
        fixed (byte* b = buffer)
        {
            while (true)
            {
                nint got = Recv(FileDescriptor, b, (nuint)buffer.Length, MSG_DONTWAIT);
                if (got >= 0)
                    return (int)got;
                int errno = Marshal.GetLastPInvokeError();
                if (errno == Errno.EAGAIN)
                    return -1;
                if (errno != Errno.EINTR)
                    throw new LinuxException("receive", errno);
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _handle.Dispose();
}
