namespace Bgsnap.NodeAgent.Disks.Graph;

/// <summary>Takes steps back, each even when another failed, and remembers the first that did.</summary>
internal sealed class Undo
{
    /// <summary>What went wrong first, or null.</summary>
    internal string? Problem { get; private set; }

    /// <summary>Takes a step back.</summary>
    /// <param name="step">The step.</param>
    /// <param name="done">Called when it worked.</param>
    /// <returns>Whether it worked.</returns>
    internal bool Try(Action step, Action? done = null)
    {
        try
        {
            step();
            done?.Invoke();
            return true;
        }
        catch (Exception e)
        {
            // Whatever it is: the other steps are taken, and what failed before is what is told.
            Problem ??= e.Message;
            return false;
        }
    }
}
