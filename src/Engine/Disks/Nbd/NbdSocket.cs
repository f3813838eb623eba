using Bgsnap.Linux;

namespace Bgsnap.Engine.Disks.Nbd;

/// <summary>
/// Exchanges bytes with a server that may cut the connection or fall silent. Every failure names the export. The caller owns the socket,
/// which is never closed here: some QEMUs do not survive that while the export exists.
/// </summary>
/// <param name="socket">Connected.</param>
/// <param name="export">The export, for errors.</param>
/// <param name="patience">How long the server may take for each message.</param>
/// <param name="cancel">Ends every wait within a tenth of a second.</param>
internal sealed unsafe class NbdSocket(UnixSocket socket, string export, TimeSpan patience, CancellationToken cancel)
{
    private const int SliceMilliseconds = 100,
        ETIMEDOUT = 110;

    /// <summary>
    /// Sends all bytes. Requests are so small and so few at a time that they always fit the kernel's buffer: if a server does not read, we
    /// wait only for its answer, and that wait has a limit.
    /// </summary>
    public void Send(ReadOnlySpan<byte> bytes)
    {
        cancel.ThrowIfCancellationRequested();
        try
        {
            socket.Send(bytes);
        }
        catch (LinuxException e)
        {
            throw Cut(e);
        }
    }

    /// <summary>Fills the span.</summary>
    /// <exception cref="NbdException">The connection ended, or receiving took too long.</exception>
    public void Receive(Span<byte> into)
    {
        long began = Environment.TickCount64;
        while (into.Length > 0)
        {
            cancel.ThrowIfCancellationRequested();
            int n = TryReceive(into);
            if (n == 0)
                throw Cut(null);
            if (n > 0)
                into = into[n..];
            else
                WaitReadable(began);
        }
    }

    /// <summary>Creates the exception for a failure of the server.</summary>
    public NbdException Error(string what, int errno = Errno.EIO, Exception? inner = null) =>
        new($"NBD export {export}: {what}", errno, inner);

    private int TryReceive(Span<byte> into)
    {
        try
        {
            return socket.TryReceive(into);
        }
        catch (LinuxException e)
        {
            throw Cut(e);
        }
    }

    private void WaitReadable(long began)
    {
        if (Environment.TickCount64 - began >= patience.TotalMilliseconds)
            throw Silent();
        PollFd wait = new() { Fd = socket.FileDescriptor, Events = Libc.POLLIN };
        // SAFETY: one pollfd on the stack. Whatever poll returns, the next receive and the clock decide.
        _ = Libc.Poll(&wait, 1, (int)Math.Min(SliceMilliseconds, patience.TotalMilliseconds));
    }

    private NbdException Silent() => Error($"the server has not answered within {patience.TotalSeconds:0.#} s", ETIMEDOUT);

    private NbdException Cut(Exception? e) => Error("the connection was cut: QEMU has ended or closed the export", Errno.EPIPE, e);
}
