namespace Bgsnap.Engine.Disks.Nbd;

/// <summary>An NBD server fell silent, failed, cut the connection, or broke the protocol; the message names the export.</summary>
/// <param name="message">What happened.</param>
/// <param name="errno">The server's error number if it sent one (a broken copy-before-write snapshot returns EACCES or EINVAL), EPIPE for a
/// connection that was cut, ETIMEDOUT for silence, else EIO.</param>
/// <param name="inner">The cause.</param>
internal sealed class NbdException(string message, int errno, Exception? inner = null) : IOException(message, inner)
{
    /// <summary>The error number.</summary>
    public int Errno { get; } = errno;
}
