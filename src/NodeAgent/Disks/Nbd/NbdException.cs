namespace Bgsnap.NodeAgent.Disks.Nbd;

/// <summary>An NBD server cannot be reached, fell silent, failed, or broke the protocol; the message names socket and export.</summary>
internal sealed class NbdException(string message, Exception? inner = null) : IOException(message, inner);
