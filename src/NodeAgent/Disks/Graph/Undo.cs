using Bgsnap.NodeAgent.Linux;
using Bgsnap.NodeAgent.Qmp;

namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>Takes steps back, each even when another failed, and remembers the first that did.</summary>
internal sealed class Undo
{
    /// <summary>What went wrong first, or null.</summary>
    internal string? Problem { get; private set; }

    /// <summary>Takes a step back.</summary>
    /// <param name="step">The step.</param>
    /// <param name="done">Called when it worked.</param>
    internal void Try(Action step, Action? done = null)
    {
        try
        {
            step();
            done?.Invoke();
        }
        catch (Exception e) when (e is QmpException or LinuxException or IOException)
        {
            Problem ??= e.Message;
        }
    }
}
