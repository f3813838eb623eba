using System.Text;
using System.Text.Json;
using Bgsnap.Linux;
using Bgsnap.Qemu.GuestAgent;

namespace Bgsnap.Qemu.Libvirt;

/// <summary>
/// The guest agent through libvirt, which owns its channel: virDomainQemuAgentCommand, on a connection of its own, because a guest is
/// thawed in parallel with other work. libvirt itself makes the guest agent discard a predecessor's partial command.
/// </summary>
internal sealed class LibvirtGuestAgent : IGuestAgent
{
    // qemu_protocol.x; libvirt's virErrorNumber for an error that the guest itself reports.
    private const uint AgentCommand = 3;
    private const int InternalError = 1;
    private static readonly TimeSpan Margin = TimeSpan.FromSeconds(5);
    private readonly LibvirtConnection _connection;

    private LibvirtGuestAgent(LibvirtConnection connection) => _connection = connection;

    /// <summary>Connects, and checks that the guest agent answers.</summary>
    /// <exception cref="GuestAgentException">libvirt is not there, or the guest agent does not answer.</exception>
    internal static LibvirtGuestAgent Connect(LibvirtMonitor monitor, TimeSpan timeout)
    {
        LibvirtGuestAgent agent;
        try
        {
            agent = new LibvirtGuestAgent(monitor.ConnectAgain());
        }
        catch (Exception e) when (e is LinuxException or LibvirtException or Qmp.QmpException)
        {
            throw new GuestAgentException($"libvirt does not give access to the guest agent: {e.Message}", inner: e);
        }
        try
        {
            _ = agent.Say("guest-ping", timeout);
            return agent;
        }
        catch
        {
            agent.Dispose();
            throw;
        }
    }

    /// <inheritdoc/>
    public int Freeze(TimeSpan timeout, CancellationToken cancel) => Number("guest-fsfreeze-freeze", timeout);

    /// <inheritdoc/>
    public int Thaw(TimeSpan timeout) => Number("guest-fsfreeze-thaw", timeout);

    /// <inheritdoc/>
    public bool IsFrozen(TimeSpan timeout, CancellationToken cancel) =>
        Say("guest-fsfreeze-status", timeout) is { ValueKind: JsonValueKind.String } status && status.GetString() == "frozen";

    private int Number(string command, TimeSpan timeout) =>
        Say(command, timeout) is { ValueKind: JsonValueKind.Number } value && value.TryGetInt32(out int number) ? number : 0;

    private JsonElement Say(string command, TimeSpan timeout)
    {
        try
        {
            // Whole seconds; for libvirt, 0 and negative values have another meaning.
            uint seconds = (uint)Math.Max(1, Math.Ceiling(timeout.TotalSeconds));
            XdrWriter call = _connection.Domain.Write(new XdrWriter()).Text($"{{\"execute\":\"{command}\"}}").Number(seconds).Number(0);
            XdrReader reader = new(_connection.Rpc.Run(LibvirtRpc.Qemu, AgentCommand, call, -1, timeout + Margin));
            using JsonDocument answer = Qmp.ForeignJson.Parse(Encoding.UTF8.GetBytes(reader.OptionalText() ?? "{}"));
            return answer.RootElement.TryGetProperty("return", out JsonElement value)
                ? value.Clone()
                : throw new GuestAgentException($"libvirt returned no answer of the guest agent to {command}");
        }
        catch (LibvirtException e)
        {
            throw new GuestAgentException($"{command}: libvirt: {e.Message}", refused: e.Code == InternalError, inner: e);
        }
        catch (Qmp.QmpException e)
        {
            throw new GuestAgentException($"{command}: {e.Message}", inner: e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new GuestAgentException($"the guest agent answered {command} with something that is not JSON", inner: e);
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _connection.Dispose();
}
