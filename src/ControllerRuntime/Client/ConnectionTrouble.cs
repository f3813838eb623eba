using System.Net.Sockets;
using System.Text.Json;

namespace Bgsnap.ControllerRuntime.Client;

/// <summary>Errors that a connection to the API server has now and then: to be tried again, and no fault of ours.</summary>
internal static class ConnectionTrouble
{
    /// <summary>Whether an exception is one of them.</summary>
    internal static bool Is(Exception e) =>
        e
            is HttpRequestException
                or IOException
                or SocketException
                or ApiException
                or JsonException
                or OperationCanceledException
                or TimeoutException;
}
