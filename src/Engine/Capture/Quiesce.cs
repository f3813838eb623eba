using Bgsnap.Linux;
using Bgsnap.Qemu;
using Bgsnap.Qemu.GuestAgent;
using Bgsnap.Qemu.Qmp;
using Bgsnap.Vocabulary;

namespace Bgsnap.Engine.Capture;

/// <summary>
/// Freezes the guest's file systems around the point in time, and makes sure that they are thawed whatever happens.
/// </summary>
/// <remarks>
/// <code>
///   Prepare   connect, guest-sync-delimited: is somebody there?        nothing is begun yet: here Required refuses
///   Freeze    mark in QEMU, guest-fsfreeze-freeze                      right before the stop window
///   Thaw      guest-fsfreeze-thaw, on a thread of its own, until it is confirmed      right after it
///   Finish    waits for that; was it frozen all the time?              the outcome
/// </code>
/// If this process does not get to the thaw: Dispose thaws after an exception; the parent thaws when this process dies
/// (<see cref="ThawRetry.Leftover"/>); when both die, the next agent that works on this QEMU finds the mark and thaws. Calls come from the
/// capturing thread, which also owns the QMP connection.
/// </remarks>
internal sealed class Quiesce : IDisposable
{
    private readonly CaptureOptions _options;
    private readonly IQmpMonitor _qmp;
    private readonly CancellationToken _cancel;
    private readonly GuestAgentAddress? _address;
    private IGuestAgent? _client;
    private Thread? _thawing;
    private Exception? _notThawed;
    private bool _marked;
    private int _frozen,
        _thawed;

    internal Quiesce(CaptureOptions options, IQmpMonitor qmp, CancellationToken cancel) =>
        (_options, _qmp, _cancel, _address) = (options, qmp, cancel, GuestAgentAddress.Of(options.GuestAgentSocket, qmp));

    /// <summary>The outcome; final after <see cref="Finish"/>.</summary>
    internal QuiesceOutcome Outcome { get; private set; }

    /// <summary>
    /// Why the outcome is not <see cref="QuiesceOutcome.GuestAgent"/>, in words; null: it is, or quiescing was not requested.
    /// </summary>
    internal string? Detail { get; private set; }

    private bool Required => _options.Quiesce == QuiescePolicy.Required;

    /// <summary>Checks for a guest agent that answers.</summary>
    /// <param name="running">The guest runs; otherwise no agent can answer.</param>
    /// <exception cref="RefusedException">Quiescing is required but will not be possible.</exception>
    internal void Prepare(bool running)
    {
        // A machine that stays stopped would resume frozen. All its memory is captured, so there is nothing to make consistent.
        if (_options.Quiesce == QuiescePolicy.Never || _options.After == AfterCapture.Stop)
            return;
        try
        {
            if (_address is null)
                throw new GuestAgentException("no guest agent's socket was named (--guest-agent)");
            if (!running)
                throw new GuestAgentException("the guest is paused: its agent cannot answer");
            _client = _address.Connect(_options.QuiesceTimeout, _cancel);
        }
        catch (GuestAgentException e)
        {
            NotQuiesced(QuiesceOutcome.NoGuestAgent, e.Message, begun: false);
            return;
        }
        try
        {
            if (!_client.IsFrozen(_options.QuiesceTimeout, _cancel))
                return;
            LetGo();
            NotQuiesced(QuiesceOutcome.QuiesceFailed, "somebody else has frozen the guest's file systems already", begun: false);
        }
        catch (GuestAgentException e)
        {
            LetGo();
            NotQuiesced(e.Refused ? QuiesceOutcome.QuiesceFailed : QuiesceOutcome.NoGuestAgent, e.Message, begun: false);
        }
    }

    /// <summary>Freezes the guest. From here on the guest's programs block when they write.</summary>
    /// <exception cref="CaptureFailedException">Quiescing is required but was not possible; whatever was frozen is thawed
    /// again.</exception>
    internal void Freeze()
    {
        // The guest is frozen already if an earlier engine had to give up.
        if (_client is null || _marked)
            return;
        FreezeMark.Put(_qmp);
        _marked = true;
        try
        {
            _frozen = _client.Freeze(_options.QuiesceTimeout, _cancel);
            Outcome = QuiesceOutcome.GuestAgent;
            TestHooks.After("frozen");
        }
        catch (GuestAgentException e)
        {
            // The guest agent may still freeze later: the thaw is queued behind the freeze. It uses a connection of its own, on which the
            // late answer to the freeze cannot be mistaken for the answer to the thaw.
            LetGo();
            Thaw();
            NotQuiesced(QuiesceOutcome.QuiesceFailed, e.Message, begun: true);
        }
    }

    /// <summary>Starts to thaw in parallel, and returns at once. Does nothing if nothing was frozen.</summary>
    internal void Thaw()
    {
        if (!_marked || _thawing is not null)
            return;
        (IGuestAgent? client, _client) = (_client, null);
        _thawing = Linux.AgentThread.Start(
            "thaw",
            () => _thawed = ThawRetry.Run(_address!, client, ThawRetry.Patience),
            failed: e => _notThawed = e
        );
    }

    /// <summary>Waits until the guest is thawed.</summary>
    /// <returns>Whether its file systems were frozen at the point in time.</returns>
    /// <exception cref="CaptureFailedException">Quiescing is required, but the freeze ended too early or the thaw was not
    /// confirmed.</exception>
    internal QuiesceOutcome Finish()
    {
        WaitForThaw();
        if (_notThawed is { } failure)
            NotQuiesced(QuiesceOutcome.QuiesceFailed, Detail is null ? failure.Message : $"{Detail}; {failure.Message}", begun: true);
        else if (Outcome != QuiesceOutcome.GuestAgent)
            return Outcome;
        else if (_thawed < _frozen)
            NotQuiesced(
                QuiesceOutcome.QuiesceFailed,
                $"{_frozen} file systems were frozen, but only {_thawed} still were when the agent thawed them: somebody else thawed "
                    + "the others, or the guest did by its own limit (10 s in Windows)",
                begun: true
            );
        return Outcome;
    }

    private void WaitForThaw()
    {
        if (!_marked)
            return;
        Thaw();
        _thawing!.Join();
        if (_notThawed is not null)
            return; // the mark stays: the next one tries again
        _marked = false;
        try
        {
            _ = FreezeMark.Take(_qmp);
        }
        catch (QmpException)
        {
            // QEMU is gone, and so is the mark.
        }
    }

    private void NotQuiesced(QuiesceOutcome outcome, string why, bool begun)
    {
        if (Required)
        {
            string message = $"the guest cannot be quiesced, and --quiesce is required: {why}";
            throw begun
                ? new CaptureFailedException(Reasons.QuiesceFailed, message + "; nothing was kept")
                : new RefusedException(Reasons.QuiesceFailed, message);
        }
        (Outcome, Detail) = (outcome, why);
    }

    private void LetGo()
    {
        _client?.Dispose();
        _client = null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        WaitForThaw();
        LetGo();
    }
}
