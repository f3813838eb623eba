using System.Text;
using System.Text.Json;

namespace Bgsnap.Qemu.Qmp;

/// <summary>An event of QEMU with QEMU's own time stamp.</summary>
/// <param name="Name">Such as <c>STOP</c>, <c>RESUME</c>, <c>BALLOON_CHANGE</c>.</param>
/// <param name="Timestamp">The host's wall clock when it happened, in microseconds since 1970.</param>
/// <param name="Data">The JSON of its data; empty: no data.</param>
public sealed record QmpEvent(string Name, long Timestamp, string Data)
{
    /// <summary>The parsed data.</summary>
    /// <exception cref="QmpException">libvirt passed on data that is not JSON.</exception>
    internal QmpValue Value
    {
        get
        {
            try
            {
                using JsonDocument data = ForeignJson.Parse(Encoding.UTF8.GetBytes(Data));
                return new QmpValue(data.RootElement.Clone(), Name, "data");
            }
            catch (JsonException)
            {
                throw new QmpException($"the data of the event {Name} are not JSON");
            }
        }
    }
}
