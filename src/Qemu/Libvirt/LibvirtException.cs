namespace Bgsnap.Qemu.Libvirt;

/// <summary>libvirt refused a call, or the connection to it broke.</summary>
/// <param name="message">What happened.</param>
/// <param name="code">libvirt's virErrorNumber; 0: the connection broke.</param>
internal sealed class LibvirtException(string message, int code = 0) : Exception(message)
{
    /// <summary>VIR_ERR_NO_DOMAIN.</summary>
    internal const int NoDomain = 42;

    /// <summary>libvirt's virErrorNumber; 0: the connection broke.</summary>
    internal int Code => code;
}
