using Bgsnap.Operator;

return await OperatorCommand.Create().Parse(args).InvokeAsync();
