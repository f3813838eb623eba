using System.Runtime.InteropServices;

namespace Bgsnap.Linux;

/// <summary>
/// Handles SIGINT and SIGTERM, which ask this process to end. The handler runs on a thread of the runtime, where an exception would end the
/// process, so exceptions are dropped.
/// </summary>
internal sealed class EndSignals : IDisposable
{
    private readonly PosixSignalRegistration _interrupt,
        _terminate;

    /// <param name="asked">Called for each of these signals; the process continues unless this ends it. It may be called once more while
    /// this object is being disposed.</param>
    internal EndSignals(Action asked)
    {
        _interrupt = PosixSignalRegistration.Create(PosixSignal.SIGINT, Handle);
        _terminate = PosixSignalRegistration.Create(PosixSignal.SIGTERM, Handle);

        void Handle(PosixSignalContext context)
        {
            context.Cancel = true;
            AgentThread.Run("signal", asked, failed: e =>
            {
                if (e is not ObjectDisposedException) // arrived after everything was done
                    Console.Error.WriteLine($"bgsnap-agent: {e.Message}");
            });
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _interrupt.Dispose();
        _terminate.Dispose();
    }
}
