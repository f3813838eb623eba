using System.Diagnostics;
using System.Text.Json.Nodes;

namespace Bgsnap.Chart.Tests.Harness;

/// <summary>Renders the chart with Helm, of which hack/helm knows where it is. No cluster is asked.</summary>
public static class ChartRenderer
{
    private static readonly string[] Release = ["--name-template", "bgsnap", Repository.Chart, "--namespace", "bgsnap-system"];

    /// <summary>The objects of the chart, with values over its own.</summary>
    public static Rendering Render(JsonObject? values = null, params string[] options) =>
        WithValues(values, ["template", .. Release, "--kube-version", "1.31.0", .. options]);

    /// <summary>What Helm prints after an installation with these values.</summary>
    public static string Notes(JsonObject? values = null)
    {
        Rendering installed = WithValues(values, ["install", .. Release, "--dry-run=client", "--output", "json"]).Succeeded();
        return (string)JsonNode.Parse(installed.Output)!["info"]!["notes"]!;
    }

    /// <summary>Any command of Helm.</summary>
    public static Rendering Helm(params string[] arguments) => Programs.Run(Repository.PathOf("hack/helm"), arguments);

    /// <summary>Values as dotted paths.</summary>
    public static JsonObject Values(params (string Path, JsonNode? Value)[] set)
    {
        JsonObject values = [];
        foreach ((string path, JsonNode? value) in set)
            Pointer.Set(values, path, value);
        return values;
    }

    private static Rendering WithValues(JsonObject? values, params string[] arguments)
    {
        if (values is null || values.Count == 0)
            return Helm(arguments);
        string file = Path.GetTempFileName();
        try
        {
            // JSON is YAML.
            File.WriteAllText(file, values.ToJsonString());
            return Helm([.. arguments, "--values", file]);
        }
        finally
        {
            File.Delete(file);
        }
    }
}

/// <summary>Other programs.</summary>
public static class Programs
{
    public static Rendering Run(string program, params string[] arguments)
    {
        ProcessStartInfo start = new(program) { RedirectStandardOutput = true, RedirectStandardError = true };
        foreach (string argument in arguments)
            start.ArgumentList.Add(argument);
        using Process process = Process.Start(start)!;
        // A thread of its own: tests that run in parallel hold those of the pool.
        string error = "";
        Thread reader = new(() => error = process.StandardError.ReadToEnd());
        reader.Start();
        string output = process.StandardOutput.ReadToEnd();
        reader.Join();
        process.WaitForExit();
        return new(process.ExitCode, output, error);
    }

    public static bool IsOnPath(string program) =>
        (Environment.GetEnvironmentVariable("PATH") ?? "")
            .Split(':', StringSplitOptions.RemoveEmptyEntries)
            .Any(dir => File.Exists(Path.Combine(dir, program)));
}
