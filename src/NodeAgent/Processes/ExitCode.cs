namespace Bgsnap.NodeAgent.Processes;

/// <summary>Exit codes of every command; documented in docs/command-line.md.</summary>
internal static class ExitCode
{
    /// <summary>Done.</summary>
    internal const int Success = 0;

    /// <summary>The command began and failed; nothing is left behind, and the guest runs.</summary>
    internal const int Failed = 1;

    /// <summary>The command line is wrong.</summary>
    internal const int Usage = 2;

    /// <summary>The command refused this guest, output or restore, gave the reason, and changed nothing.</summary>
    internal const int Refused = 3;

    /// <summary>The requested engine does not work on this machine.</summary>
    internal const int EngineUnavailable = 4;

    /// <summary>The snapshot is damaged.</summary>
    internal const int Corrupt = 5;

    /// <summary>QEMU cannot be reached, is not QEMU, or ended.</summary>
    internal const int QemuUnreachable = 6;

    /// <summary>Ended by a signal.</summary>
    internal const int Cancelled = 130;
}
