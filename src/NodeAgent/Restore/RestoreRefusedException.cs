namespace Bgsnap.NodeAgent.Restore;

/// <summary>A restore that is not begun, because the target is not a machine that this snapshot fits.</summary>
public sealed class RestoreRefusedException(string message) : Exception(message);

/// <summary>A restore that QEMU did not accept; its guest did not run.</summary>
public sealed class RestoreFailedException(string message) : Exception(message);
