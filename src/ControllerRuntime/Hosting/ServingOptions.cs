using System.CommandLine;
using System.CommandLine.Parsing;
using System.Net;
using Microsoft.Extensions.Logging;

namespace Bgsnap.ControllerRuntime.Hosting;

/// <summary>How a program of ours serves and logs.</summary>
/// <param name="Endpoints">Where probes and metrics are served.</param>
/// <param name="MetricsNeedToken">Whether metrics need a bearer token.</param>
/// <param name="Level">What is logged.</param>
/// <param name="JsonLog">Whether each message is a JSON object instead of a line of text.</param>
public sealed record Serving(EndpointOptions Endpoints, bool MetricsNeedToken, LogLevel Level, bool JsonLog);

/// <summary>The options of the command line that every program in the cluster has.</summary>
public sealed class ServingOptions
{
    private readonly Option<IPEndPoint> _health = Address("--health-address", "Where /healthz and /readyz are served", "0.0.0.0:8081");
    private readonly Option<IPEndPoint> _metrics = Address("--metrics-address", "Where /metrics is served", "127.0.0.1:8080");
    private readonly Option<string> _auth = new("--metrics-auth")
    {
        HelpName = "token|none",
        Description = "token: readers of metrics show a bearer token that may get /metrics (default, unless served on localhost only)",
    };
    private readonly Option<LogLevel> _level = new("--log-level")
    {
        HelpName = "Debug|Information|Warning|Error",
        Description = "What is logged",
        DefaultValueFactory = _ => LogLevel.Information,
    };
    private readonly Option<string> _format = new("--log-format")
    {
        HelpName = "text|json",
        Description = "One line of text, or one JSON object, for each message",
        DefaultValueFactory = _ => "text",
    };

    /// <summary>Adds the options to a command.</summary>
    public ServingOptions(Command command)
    {
        _auth.AcceptOnlyFromAmong("token", "none");
        _format.AcceptOnlyFromAmong("text", "json");
        foreach (Option option in (Option[])[_health, _metrics, _auth, _level, _format])
            command.Add(option);
    }

    /// <summary>What was given, or the defaults.</summary>
    public Serving Read(ParseResult parsed)
    {
        IPEndPoint metrics = parsed.GetValue(_metrics)!;
        string auth = parsed.GetValue(_auth) ?? (IPAddress.IsLoopback(metrics.Address) ? "none" : "token");
        return new Serving(
            new EndpointOptions(parsed.GetValue(_health)!, metrics),
            auth == "token",
            parsed.GetValue(_level),
            parsed.GetValue(_format) == "json"
        );
    }

    private static Option<IPEndPoint> Address(string name, string description, string usual) =>
        new(name)
        {
            HelpName = "ADDRESS:PORT",
            Description = description,
            CustomParser = ReadAddress,
            DefaultValueFactory = _ => IPEndPoint.Parse(usual),
        };

    private static IPEndPoint? ReadAddress(ArgumentResult result)
    {
        if (IPEndPoint.TryParse(result.Tokens[0].Value, out IPEndPoint? address) && address.Port != 0)
            return address;
        result.AddError($"'{result.Tokens[0].Value}' is not an address and port; write for example 127.0.0.1:8080");
        return null;
    }
}
