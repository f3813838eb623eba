namespace Bgsnap.Engine.Capture;

/// <summary>A group of threads to join together.</summary>
internal sealed class Threads
{
    private readonly List<Thread> _threads = [];

    internal void Add(Thread thread) => _threads.Add(thread);

    internal void Join()
    {
        foreach (Thread t in _threads)
            t.Join();
        _threads.Clear();
    }
}
